//! Where the publisher's WAL ended at which time: what tells how long ago a position was the newest.

use std::collections::VecDeque;

/// At an answer each 5 s the whole of it reaches back hours, the older part in larger steps.
const ROOM: usize = 512;

#[derive(Debug, Default)]
pub(super) struct History(VecDeque<(f64, i64)>);

impl History {
    /// The publisher was at `lsn` at some time after `asked_at`, in seconds since 1970.
    pub(super) fn add(&mut self, asked_at: f64, lsn: i64) {
        if self.0.back().is_some_and(|(_, last)| *last > lsn) {
            // Another server, or an older state of it.
            self.0.clear();
        }
        if let Some((at, _)) = self.0.back_mut().filter(|(_, last)| *last == lsn) {
            *at = asked_at;
            return;
        }
        self.0.push_back((asked_at, lsn));
        if self.0.len() > ROOM {
            let mut place = 0;
            self.0.retain(|_| {
                place += 1;
                place > ROOM / 2 || place % 2 == 0
            });
        }
    }

    /// The last time at which nothing beyond `lsn` was known to be there: who has applied up to `lsn` is behind by no more
    /// than the time since then.
    pub(super) fn last_at_or_before(&self, lsn: i64) -> Option<f64> {
        let beyond = self.0.partition_point(|(_, one)| *one <= lsn);
        beyond.checked_sub(1).map(|place| self.0[place].0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_when_a_position_was_the_newest() {
        let mut history = History::default();
        for (at, lsn) in [(10.0, 100), (20.0, 200), (30.0, 200), (40.0, 300)] {
            history.add(at, lsn);
        }
        assert_eq!(history.last_at_or_before(99), None);
        assert_eq!(history.last_at_or_before(150), Some(10.0));
        assert_eq!(history.last_at_or_before(200), Some(30.0));
        assert_eq!(history.last_at_or_before(1000), Some(40.0));
    }

    #[test]
    fn stays_small_and_reaches_far_back() {
        let mut history = History::default();
        for step in 0..100_000 {
            history.add(f64::from(step), i64::from(step));
        }
        assert!(history.0.len() <= ROOM);
        assert_eq!(history.last_at_or_before(99_999), Some(99_999.0));
        let (oldest, _) = history.0[0];
        assert!(oldest < 99_000.0, "{oldest}");
    }

    #[test]
    fn another_server_begins_anew() {
        let mut history = History::default();
        history.add(10.0, 1000);
        history.add(20.0, 5);
        assert_eq!(history.last_at_or_before(1000), Some(20.0));
    }
}
