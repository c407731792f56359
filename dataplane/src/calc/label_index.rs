//! LabelIndex: which selectors match which labelled items, as both come, change and go.
//!
//! Used twice: rule selectors against everything that has addresses (up to 100,000 items), and policy selectors against
//! this node's endpoints. An item inherits labels from its parents (profiles), the first one that has the label winning
//! after the item itself. The index answers every change with the matches that started or stopped, and nothing else.
//!
//! The trick is Calico's: most selectors can only match items that carry a certain label, often with a certain value
//! (`Selector::restrictions`). A new selector is tried on the items with that label only; a changed item is tried
//! against the selectors anchored at a label it carries, plus the few that have no anchor.

use std::collections::{BTreeMap, BTreeSet};

use appliance_resources::{Labels, Restriction, Selector};

/// A match that began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change<S, I> {
    pub(crate) selector: S,
    pub(crate) item: I,
    pub(crate) matches: bool,
}

/// Selectors × items.
///
/// * `selector ∈ items[item].matched` exactly when `selectors[selector]` matches `items[item].effective`.
/// * `carriers` holds every item under each of its effective labels, `anchored` every selector under its anchor.
/// * An item is listed as a child of each of its parents, whether that parent exists or not.
#[derive(Clone, Debug)]
pub(crate) struct LabelIndex<S, I> {
    selectors: BTreeMap<S, (Selector, Anchor)>,
    items: BTreeMap<I, Item<S>>,
    parents: BTreeMap<String, Parent<I>>,
    carriers: BTreeMap<String, BTreeMap<String, BTreeSet<I>>>,
    anchored: BTreeMap<String, AnchoredAt<S>>,
    unanchored: BTreeSet<S>,
}

#[derive(Clone, Debug)]
struct Item<S> {
    own: Labels,
    parents: Vec<String>,
    effective: Labels,
    matched: BTreeSet<S>,
}

#[derive(Clone, Debug)]
struct Parent<I> {
    labels: Labels,
    children: BTreeSet<I>,
}

/// The selectors anchored at one label name.
#[derive(Clone, Debug)]
struct AnchoredAt<S> {
    present: BTreeSet<S>,
    values: BTreeMap<String, BTreeSet<S>>,
}

/// What an item must carry for a selector to have a chance.
#[derive(Clone, Debug)]
enum Anchor {
    /// The label with one of these values.
    Values(String, Vec<String>),
    /// The label, whatever its value.
    Present(String),
    /// Nothing in particular.
    Nowhere,
}

impl<S: Ord + Clone, I: Ord + Clone> Default for LabelIndex<S, I> {
    fn default() -> Self {
        LabelIndex {
            selectors: BTreeMap::new(),
            items: BTreeMap::new(),
            parents: BTreeMap::new(),
            carriers: BTreeMap::new(),
            anchored: BTreeMap::new(),
            unanchored: BTreeSet::new(),
        }
    }
}

impl<S: Ord + Clone, I: Ord + Clone> LabelIndex<S, I> {
    /// Adds a selector or replaces it.
    pub(crate) fn set_selector(&mut self, id: S, selector: Selector) -> Vec<Change<S, I>> {
        if self.selectors.get(&id).is_some_and(|(known, _)| *known == selector) {
            return Vec::new();
        }
        let before = self.items_of(&id);
        self.unlink_selector(&id);
        let anchor = anchor(&selector);
        let after: BTreeSet<I> = self
            .candidates(&anchor)
            .into_iter()
            .filter(|item| self.items.get(item).is_some_and(|item| selector.matches(&item.effective)))
            .collect();
        self.link_selector(&id, selector, anchor);
        let stopped = before.difference(&after).map(|item| (item.clone(), false));
        let started = after.difference(&before).map(|item| (item.clone(), true));
        stopped.chain(started).map(|(item, matches)| self.record(id.clone(), item, matches)).collect()
    }

    /// Forgets a selector; its matches stop.
    pub(crate) fn remove_selector(&mut self, id: &S) -> Vec<Change<S, I>> {
        let before = self.items_of(id);
        self.unlink_selector(id);
        before.into_iter().map(|item| self.record(id.clone(), item, false)).collect()
    }

    /// Adds an item or replaces its labels and parents.
    pub(crate) fn set_item(&mut self, id: I, own: Labels, parents: Vec<String>) -> Vec<Change<S, I>> {
        if self.items.get(&id).is_some_and(|item| item.own == own && item.parents == parents) {
            return Vec::new();
        }
        let matched = self.unlink_item(&id);
        self.link_item(id, own, parents, matched)
    }

    /// Forgets an item; its matches stop.
    pub(crate) fn remove_item(&mut self, id: &I) -> Vec<Change<S, I>> {
        let matched = self.unlink_item(id);
        matched.into_iter().map(|selector| Change { selector, item: id.clone(), matches: false }).collect()
    }

    /// Sets the labels a parent hands down; an empty map is as good as a parent that does not exist.
    pub(crate) fn set_parent(&mut self, name: &str, labels: Labels) -> Vec<Change<S, I>> {
        let parent = self.parents.entry(name.to_owned()).or_default();
        let changed = parent.labels != labels;
        parent.labels = labels;
        let children = if changed { parent.children.clone() } else { BTreeSet::new() };
        self.drop_idle_parent(name);
        let mut changes = Vec::new();
        for child in children {
            // Taken out and put back whole: its effective labels decide under which names it is found.
            let Some(Item { own, parents, .. }) = self.items.get(&child).cloned() else { continue };
            let matched = self.unlink_item(&child);
            changes.extend(self.link_item(child, own, parents, matched));
        }
        changes
    }

    /// The selectors that match an item.
    pub(crate) fn matched_by(&self, item: &I) -> impl Iterator<Item = &S> {
        self.items.get(item).into_iter().flat_map(|item| item.matched.iter())
    }

    fn link_item(
        &mut self,
        id: I,
        own: Labels,
        parents: Vec<String>,
        before: BTreeSet<S>,
    ) -> Vec<Change<S, I>> {
        for parent in &parents {
            self.parents.entry(parent.clone()).or_default().children.insert(id.clone());
        }
        let effective = self.effective(&own, &parents);
        for (name, value) in &effective {
            let values = self.carriers.entry(name.clone()).or_default();
            values.entry(value.clone()).or_default().insert(id.clone());
        }
        let after = self.selectors_for(&effective);
        let stopped = before.difference(&after).map(|selector| (selector.clone(), false));
        let started = after.difference(&before).map(|selector| (selector.clone(), true));
        let changes = stopped
            .chain(started)
            .map(|(selector, matches)| Change { selector, item: id.clone(), matches })
            .collect();
        self.items.insert(id, Item { own, parents, effective, matched: after });
        changes
    }

    /// Takes an item out of every list and returns what matched it.
    fn unlink_item(&mut self, id: &I) -> BTreeSet<S> {
        let Some(item) = self.items.remove(id) else { return BTreeSet::new() };
        for name in &item.parents {
            if let Some(parent) = self.parents.get_mut(name) {
                parent.children.remove(id);
            }
            self.drop_idle_parent(name);
        }
        for (name, value) in &item.effective {
            let Some(values) = self.carriers.get_mut(name) else { continue };
            if let Some(carriers) = values.get_mut(value) {
                carriers.remove(id);
                if carriers.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.carriers.remove(name);
            }
        }
        item.matched
    }

    /// A parent nobody names and that hands nothing down need not be remembered.
    fn drop_idle_parent(&mut self, name: &str) {
        if self.parents.get(name).is_some_and(|parent| parent.labels.is_empty() && parent.children.is_empty())
        {
            self.parents.remove(name);
        }
    }

    fn effective(&self, own: &Labels, parents: &[String]) -> Labels {
        let mut effective = own.clone();
        for parent in parents.iter().filter_map(|name| self.parents.get(name)) {
            for (name, value) in &parent.labels {
                effective.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        effective
    }

    /// The selectors that match these labels, found through their anchors.
    fn selectors_for(&self, labels: &Labels) -> BTreeSet<S> {
        let mut candidates: BTreeSet<&S> = self.unanchored.iter().collect();
        for (name, value) in labels {
            if let Some(at) = self.anchored.get(name) {
                candidates.extend(&at.present);
                candidates.extend(at.values.get(value).into_iter().flatten());
            }
        }
        candidates
            .into_iter()
            .filter(|id| self.selectors.get(id).is_some_and(|(selector, _)| selector.matches(labels)))
            .cloned()
            .collect()
    }

    /// The items a selector with this anchor could match.
    fn candidates(&self, anchor: &Anchor) -> BTreeSet<I> {
        let carriers = |name: &String| self.carriers.get(name).into_iter();
        match anchor {
            Anchor::Nowhere => self.items.keys().cloned().collect(),
            Anchor::Present(name) => carriers(name).flat_map(BTreeMap::values).flatten().cloned().collect(),
            Anchor::Values(name, values) => carriers(name)
                .flat_map(|known| values.iter().filter_map(|value| known.get(value)))
                .flatten()
                .cloned()
                .collect(),
        }
    }

    fn items_of(&self, id: &S) -> BTreeSet<I> {
        let Some((_, anchor)) = self.selectors.get(id) else { return BTreeSet::new() };
        let mut items = self.candidates(anchor);
        items.retain(|item| self.items.get(item).is_some_and(|item| item.matched.contains(id)));
        items
    }

    fn record(&mut self, selector: S, item: I, matches: bool) -> Change<S, I> {
        if let Some(entry) = self.items.get_mut(&item) {
            if matches {
                entry.matched.insert(selector.clone());
            } else {
                entry.matched.remove(&selector);
            }
        }
        Change { selector, item, matches }
    }

    fn link_selector(&mut self, id: &S, selector: Selector, anchor: Anchor) {
        match &anchor {
            Anchor::Nowhere => {
                self.unanchored.insert(id.clone());
            }
            Anchor::Present(name) => {
                self.anchored.entry(name.clone()).or_default().present.insert(id.clone());
            }
            Anchor::Values(name, values) => {
                let at = self.anchored.entry(name.clone()).or_default();
                for value in values {
                    at.values.entry(value.clone()).or_default().insert(id.clone());
                }
            }
        }
        self.selectors.insert(id.clone(), (selector, anchor));
    }

    fn unlink_selector(&mut self, id: &S) {
        let Some((_, anchor)) = self.selectors.remove(id) else { return };
        let (Anchor::Present(name) | Anchor::Values(name, _)) = anchor else {
            self.unanchored.remove(id);
            return;
        };
        let Some(at) = self.anchored.get_mut(&name) else { return };
        at.present.remove(id);
        at.values.retain(|_, selectors| {
            selectors.remove(id);
            !selectors.is_empty()
        });
        if at.present.is_empty() && at.values.is_empty() {
            self.anchored.remove(&name);
        }
    }
}

impl<I> Default for Parent<I> {
    fn default() -> Self {
        Parent { labels: Labels::new(), children: BTreeSet::new() }
    }
}

impl<S> Default for AnchoredAt<S> {
    fn default() -> Self {
        AnchoredAt { present: BTreeSet::new(), values: BTreeMap::new() }
    }
}

/// The demand that leaves the fewest candidates: a label with few values before a label with any.
fn anchor(selector: &Selector) -> Anchor {
    let demands = selector.restrictions();
    let narrowest = demands
        .iter()
        .filter_map(|(name, demand)| match demand {
            Restriction::OneOf(values) => Some((values.len(), name, values)),
            Restriction::Present | Restriction::Absent => None,
        })
        .min();
    if let Some((_, name, values)) = narrowest {
        return Anchor::Values(name.clone(), values.iter().cloned().collect());
    }
    let present = demands.into_iter().find(|(_, demand)| *demand == Restriction::Present);
    present.map_or(Anchor::Nowhere, |(name, _)| Anchor::Present(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Index = LabelIndex<&'static str, u8>;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn printed(changes: Vec<Change<&'static str, u8>>) -> Vec<String> {
        let sign = |matches| if matches { '+' } else { '-' };
        changes
            .iter()
            .map(|change| format!("{}{}:{}", sign(change.matches), change.selector, change.item))
            .collect()
    }

    #[test]
    fn inherited_labels_match_until_the_item_has_its_own() {
        let mut index = Index::default();
        index.set_selector("web", "role == 'web'".parse().unwrap());
        index.set_selector("odd", "role != 'web'".parse().unwrap());
        assert_eq!(printed(index.set_item(1, Labels::new(), vec!["p".to_owned()])), ["+odd:1"]);
        assert_eq!(printed(index.set_parent("p", labels(&[("role", "web")]))), ["-odd:1", "+web:1"]);
        assert_eq!(
            printed(index.set_item(1, labels(&[("role", "web")]), vec![])),
            [""; 0],
            "moved, not changed"
        );
        assert_eq!(
            printed(index.set_item(1, labels(&[("role", "db")]), vec!["p".to_owned()])),
            ["-web:1", "+odd:1"]
        );
        assert_eq!(printed(index.remove_item(&1)), ["-odd:1"]);
    }

    #[test]
    fn the_first_parent_that_has_the_label_wins() {
        let mut index = Index::default();
        index.set_selector("a", "x == 'a'".parse().unwrap());
        index.set_parent("one", labels(&[("x", "a")]));
        index.set_parent("two", labels(&[("x", "b")]));
        assert_eq!(
            printed(index.set_item(1, Labels::new(), vec!["one".to_owned(), "two".to_owned()])),
            ["+a:1"]
        );
        assert_eq!(
            printed(index.set_item(1, Labels::new(), vec!["two".to_owned(), "one".to_owned()])),
            ["-a:1"]
        );
    }

    const SELECTORS: [&str; 12] = [
        "",
        "a == '0'",
        "a in {'0', '1'}",
        "has(a)",
        "!has(a)",
        "a != '1'",
        "a == '0' && b == '1'",
        "a == '0' || b == '1'",
        "has(a) && a == '2'",
        "a == '0' && a == '1'",
        "b starts with '1' && !has(c)",
        "!(a == '0' || has(c))",
    ];

    /// Names and values by number.
    type Pairs = Vec<(usize, usize)>;

    #[derive(Clone, Debug)]
    enum Step {
        Selector(usize, Option<usize>),
        Item(u8, Option<(Pairs, Vec<usize>)>),
        Parent(usize, Pairs),
    }

    fn some_labels() -> impl Strategy<Value = Pairs> {
        proptest::collection::vec((0usize..3, 0usize..3), 0..3)
    }

    fn step() -> impl Strategy<Value = Step> {
        let parents = proptest::collection::vec(0usize..3, 0..3);
        prop_oneof![
            (0usize..4, proptest::option::of(0..SELECTORS.len()))
                .prop_map(|(id, text)| Step::Selector(id, text)),
            (0u8..5, proptest::option::of((some_labels(), parents)))
                .prop_map(|(id, item)| Step::Item(id, item)),
            (0usize..3, some_labels()).prop_map(|(id, labels)| Step::Parent(id, labels)),
        ]
    }

    fn made(pairs: &[(usize, usize)]) -> Labels {
        pairs.iter().map(|(name, value)| (["a", "b", "c"][*name].to_owned(), value.to_string())).collect()
    }

    proptest! {
        /// After any history, the announced changes add up to what asking every selector about every item gives.
        #[test]
        fn agrees_with_asking_everyone(steps in proptest::collection::vec(step(), 0..60)) {
            let ids = ["s0", "s1", "s2", "s3"];
            let mut index = Index::default();
            let mut announced: BTreeSet<(&str, u8)> = BTreeSet::new();
            let mut selectors: BTreeMap<&str, Selector> = BTreeMap::new();
            let mut items: BTreeMap<u8, (Labels, Vec<String>)> = BTreeMap::new();
            let mut parents: BTreeMap<String, Labels> = BTreeMap::new();
            for step in steps {
                let changes = match step {
                    Step::Selector(id, Some(text)) => {
                        let selector: Selector = SELECTORS[text].parse().unwrap();
                        selectors.insert(ids[id], selector.clone());
                        index.set_selector(ids[id], selector)
                    }
                    Step::Selector(id, None) => {
                        selectors.remove(ids[id]);
                        index.remove_selector(&ids[id])
                    }
                    Step::Item(id, Some((own, up))) => {
                        let up: Vec<String> = up.iter().map(|name| format!("p{name}")).collect();
                        items.insert(id, (made(&own), up.clone()));
                        index.set_item(id, made(&own), up)
                    }
                    Step::Item(id, None) => {
                        items.remove(&id);
                        index.remove_item(&id)
                    }
                    Step::Parent(id, handed) => {
                        parents.insert(format!("p{id}"), made(&handed));
                        index.set_parent(&format!("p{id}"), made(&handed))
                    }
                };
                for Change { selector, item, matches } in changes {
                    let new = if matches { announced.insert((selector, item)) } else { announced.remove(&(selector, item)) };
                    prop_assert!(new, "{selector} and {item} announced twice");
                }
                let mut expected = BTreeSet::new();
                for (id, selector) in &selectors {
                    for (item, (own, up)) in &items {
                        let lookup = |name: &str| {
                            let inherited = || up.iter().find_map(|parent| parents.get(parent)?.get(name));
                            own.get(name).or_else(inherited).map(String::as_str)
                        };
                        if selector.matches_with(&lookup) {
                            expected.insert((*id, *item));
                        }
                    }
                }
                prop_assert_eq!(&announced, &expected);
                for item in items.keys() {
                    let matched = index.matched_by(item).copied().collect::<BTreeSet<_>>();
                    prop_assert_eq!(matched, expected.iter().filter(|(_, id)| id == item).map(|(id, _)| *id).collect());
                }
            }
        }
    }
}
