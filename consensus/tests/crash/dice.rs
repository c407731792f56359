//! Dice: random numbers from a seed that is printed, so that a failure can be played again.

/// SplitMix64.
pub(crate) struct Dice(u64);

impl Dice {
    /// From `SEED`, or from the clock; says which for the test `name`.
    pub(crate) fn new(name: &str) -> Dice {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |now| now.as_nanos() as u64)
        });
        eprintln!("{name}: SEED={seed}");
        Dice(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % bound
    }
}

impl From<u64> for Dice {
    fn from(seed: u64) -> Dice {
        Dice(seed)
    }
}
