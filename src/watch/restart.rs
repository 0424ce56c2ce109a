//! When an apply worker that hangs is ended, so that the server starts another: once, and then less and less often, for
//! what a new worker has not mended the next one will hardly mend.

use super::copy::Key;
use std::collections::HashMap;

/// After each restart the next one waits twice as long as the one before, up to so many doublings.
const DOUBLINGS: u32 = 10;
/// A subscription that has been well for so many times `stall_timeout` is judged anew.
const PROBATION: f64 = 10.0;

#[derive(Default)]
pub(crate) struct Restarts(HashMap<Key, History>);

struct History {
    restarts: u32,
    last_at: f64,
    /// When it was last seen to hang.
    hung_at: f64,
}

impl Restarts {
    /// Whether the worker of a subscription that hangs is to be ended now, which counts as done then. `now` and
    /// `stall_timeout` in seconds.
    pub(crate) fn is_due(&mut self, key: &Key, now: f64, stall_timeout: f64) -> bool {
        self.0
            .retain(|_, one| now - one.hung_at < PROBATION * stall_timeout);
        let history = self.0.entry(key.clone()).or_insert(History {
            restarts: 0,
            last_at: f64::NEG_INFINITY,
            hung_at: now,
        });
        history.hung_at = now;
        let pause = stall_timeout * f64::from(1_u32 << history.restarts.min(DOUBLINGS));
        if history.restarts > 0 && now - history.last_at < pause {
            return false;
        }
        history.restarts += 1;
        history.last_at = now;
        true
    }

    /// How often the worker has been ended.
    pub(crate) fn number(&self, key: &Key) -> u32 {
        self.0.get(key).map_or(0, |one| one.restarts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_restarts_grow() {
        let mut restarts = Restarts::default();
        let key: Key = ("native".to_owned(), 1);
        let times: Vec<u32> = (0..2000)
            .filter(|second| restarts.is_due(&key, f64::from(*second), 60.0))
            .collect();
        assert_eq!(times, [0, 120, 360, 840, 1800]);
        assert_eq!(restarts.number(&key), 5);
    }

    #[test]
    fn subscription_that_was_well_for_long_is_judged_anew() {
        let mut restarts = Restarts::default();
        let key: Key = ("native".to_owned(), 1);
        assert!(restarts.is_due(&key, 0.0, 60.0));
        assert!(!restarts.is_due(&key, 60.0, 60.0));
        assert!(restarts.is_due(&key, 700.0, 60.0));
        assert_eq!(restarts.number(&key), 1);
    }

    #[test]
    fn subscriptions_do_not_share_their_restarts() {
        let mut restarts = Restarts::default();
        assert!(restarts.is_due(&("native".to_owned(), 1), 0.0, 60.0));
        assert!(restarts.is_due(&("native".to_owned(), 2), 0.0, 60.0));
    }
}
