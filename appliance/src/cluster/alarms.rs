//! Alarms: what an operator should look at, as `/cluster/status` and the log show it.
//!
//! Whoever finds something wrong raises an alarm under a name of its own and clears it when it is right again. It
//! refuses to keep history: an alarm is what is wrong now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The alarms of this node. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Alarms {
    /// Says that something is wrong; logged when it is new or has changed.
    pub(crate) fn raise(&self, name: &'static str, text: String) {
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if alarms.get(name) != Some(&text) {
            tracing::warn!("alarm: {text}");
            alarms.insert(name, text);
        }
    }

    /// Says that it is right again.
    pub(crate) fn clear(&self, name: &'static str) {
        let cleared = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(text) = cleared {
            tracing::info!("alarm is over: {text}");
        }
    }

    /// What is wrong now, in the order of the names.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_stands_until_it_is_cleared() {
        let alarms = Alarms::default();
        let seen = alarms.clone();
        alarms.raise("b", "second".to_owned());
        alarms.raise("a", "first".to_owned());
        alarms.raise("a", "first, again".to_owned());
        assert_eq!(seen.texts(), ["first, again", "second"]);
        alarms.clear("a");
        alarms.clear("a");
        assert_eq!(seen.texts(), ["second"]);
    }
}
