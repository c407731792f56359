//! The network between simulated members: it delays, loses, doubles and reorders messages, and cuts links in one or both
//! directions. It knows ids and dice, nothing of what it carries.

use std::collections::BTreeSet;

use super::dice::Dice;

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Percent of messages that are lost.
    pub(crate) loss: u64,
    /// Percent of messages that arrive twice.
    pub(crate) doubled: u64,
    /// Milliseconds on the way, at least and at most; messages overtake each other by as much.
    pub(crate) delay: (u64, u64),
}

impl Weather {
    pub(crate) const FAIR: Weather = Weather { loss: 0, doubled: 0, delay: (1, 3) };

    pub(crate) fn draw(dice: &mut Dice) -> Weather {
        let slow = dice.pick(&[5, 20, 20, 80, 400]).unwrap_or_default();
        Weather {
            loss: dice.pick(&[0, 0, 2, 10, 30, 50]).unwrap_or_default(),
            doubled: dice.pick(&[0, 0, 5, 30]).unwrap_or_default(),
            delay: (1, slow),
        }
    }
}

/// Who can reach whom, and how.
pub(crate) struct Network {
    pub(crate) weather: Weather,
    cut: BTreeSet<(u64, u64)>,
    dice: Dice,
}

impl Network {
    pub(crate) fn new(dice: Dice) -> Network {
        Network { weather: Weather::FAIR, cut: BTreeSet::new(), dice }
    }

    /// When a message sent now arrives, in milliseconds from now: never, once or twice.
    pub(crate) fn arrivals(&mut self, from: u64, to: u64) -> Vec<u64> {
        let Weather { loss, doubled, delay: (least, most) } = self.weather;
        if self.is_cut(from, to) || self.dice.percent(loss) {
            return Vec::new();
        }
        let times = if self.dice.percent(doubled) { 2 } else { 1 };
        (0..times).map(|_| self.dice.between(least, most)).collect()
    }

    pub(crate) fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.contains(&(from, to))
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Cuts links in one of the ways that have broken clusters before.
    pub(crate) fn partition(&mut self, members: &[u64], leader: Option<u64>) -> String {
        let dice = &mut self.dice;
        let Some(one) = leader.filter(|_| dice.percent(50)).or_else(|| dice.pick(members)) else {
            return "nothing to cut".to_owned();
        };
        let others = members.iter().copied().filter(|id| *id != one);
        match dice.below(6) {
            0 => {
                self.cut.extend(others.flat_map(|other| [(one, other), (other, one)]));
                format!("{one} is alone")
            }
            1 => {
                self.cut.extend(others.map(|other| (other, one)));
                format!("{one} sends and hears nothing")
            }
            2 => {
                self.cut.extend(others.map(|other| (one, other)));
                format!("{one} hears and sends nothing")
            }
            3 => {
                let Some(other) = dice.pick(&others.collect::<Vec<u64>>()) else { return String::new() };
                self.cut.extend([(one, other), (other, one)]);
                format!("{one} and {other} are cut")
            }
            4 => {
                let side: BTreeSet<u64> = others.filter(|_| dice.percent(50)).chain([one]).collect();
                self.split(members, &side, None);
                format!("{side:?} apart")
            }
            _ => {
                let side: BTreeSet<u64> = others.filter(|_| dice.percent(50)).collect();
                self.split(members, &side, Some(one));
                format!("{side:?} apart, {one} is the bridge")
            }
        }
    }

    fn split(&mut self, members: &[u64], side: &BTreeSet<u64>, bridge: Option<u64>) {
        for from in members {
            for to in members {
                let touches = Some(*from) == bridge || Some(*to) == bridge;
                if side.contains(from) != side.contains(to) && !touches {
                    self.cut.insert((*from, *to));
                }
            }
        }
    }
}
