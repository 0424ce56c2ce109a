//! How fast copies run and how long they will take: a pure reckoning over the last samples.

use super::sample::UnreadyTable;
use crate::subscription::known::KnownCopy;
use crate::subscription::publisher::PublishedTable;
use std::collections::{HashMap, HashSet, VecDeque};

/// Rates are over so many seconds.
const WINDOW: f64 = 30.0;

/// An amount that grows, at the times when it was looked at.
#[derive(Debug, Default)]
struct Growth(VecDeque<(f64, f64)>);

impl Growth {
    fn add(&mut self, now: f64, amount: f64) {
        if self.0.back().is_some_and(|(_, last)| *last > amount) {
            // It has begun anew.
            self.0.clear();
        }
        self.0.push_back((now, amount));
        while self.0.len() > 2 && self.0[1].0 < now - WINDOW {
            self.0.pop_front();
        }
    }

    fn per_second(&self) -> Option<f64> {
        let (first_at, first) = self.0.front()?;
        let (last_at, last) = self.0.back()?;
        (last_at > first_at).then(|| (last - first) / (last_at - first_at))
    }
}

/// A subscription: provider and OID.
pub(super) type Key = (String, u32);

/// What was seen of running copies.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Bytes that each copying process has received, which is copying a table.
    processes: HashMap<(i32, String), Growth>,
    /// Bytes of the publisher's tables that are done.
    subscriptions: HashMap<Key, Growth>,
    /// Tables that were seen being copied, by subscription.
    seen: HashMap<Key, HashSet<String>>,
}

impl Copies {
    /// Takes up what runs now and forgets what does not.
    pub(super) fn look(&mut self, unready: &[UnreadyTable], now: f64) {
        let running: HashMap<(i32, String), f64> = unready
            .iter()
            .filter_map(|table| Some(((table.pid?, table.name()), table.bytes_copied?)))
            .collect();
        self.processes.retain(|key, _| running.contains_key(key));
        for (key, bytes) in running {
            self.processes.entry(key).or_default().add(now, bytes);
        }
        for table in unready.iter().filter(|table| table.pid.is_some()) {
            let seen = self.seen.entry(table.key()).or_default();
            seen.insert(table.name());
        }
    }

    /// The tables of a subscription of which its provider does not tell which are done (pglogical, while it copies all of
    /// them): all but those that were seen being copied and are not any more.
    pub(super) fn not_seen_to_end(
        &self,
        key: &Key,
        published: &[&PublishedTable],
        running: &[&UnreadyTable],
    ) -> Vec<UnreadyTable> {
        let seen = self.seen.get(key);
        let not_begun = published.iter().map(|table| UnreadyTable {
            provider: key.0.clone(),
            id: key.1,
            schema_name: table.schema_name.clone(),
            table_name: table.table_name.clone(),
            is_to_copy: true,
            ..UnreadyTable::default()
        });
        not_begun
            .filter(|table| !seen.is_some_and(|seen| seen.contains(&table.name())))
            .chain(running.iter().map(|table| (*table).clone()))
            .collect()
    }

    /// Forgets subscriptions that are not copying: what was seen of an earlier copy says nothing of the next.
    pub(super) fn keep(&mut self, copying: &HashSet<Key>) {
        self.seen.retain(|key, _| copying.contains(key));
        self.subscriptions.retain(|key, _| copying.contains(key));
    }

    /// Bytes a second of each process.
    pub(super) fn rates(&self) -> HashMap<i32, f64> {
        let processes = self.processes.iter();
        processes
            .filter_map(|((pid, _), growth)| Some((*pid, growth.per_second()?)))
            .collect()
    }

    /// How far the copy of a whole subscription is, by the sizes of the publisher's tables. `None`: not everything that has
    /// to be known is known.
    pub(super) fn of_subscription(
        &mut self,
        key: &Key,
        unready: &[&UnreadyTable],
        published: &[&PublishedTable],
        now: f64,
    ) -> Option<KnownCopy> {
        let mut sizes = HashMap::new();
        for table in published {
            let name = (table.schema_name.as_str(), table.table_name.as_str());
            sizes.insert(name, (table.bytes?, table.rows));
        }
        let total: f64 = sizes.values().map(|(bytes, _)| *bytes as f64).sum();
        let mut left = 0.0;
        let mut unready = unready.iter().filter(|table| table.is_to_copy).peekable();
        unready.peek()?;
        for table in unready {
            let (bytes, rows) =
                sizes.get(&(table.schema_name.as_str(), table.table_name.as_str()))?;
            left += *bytes as f64 * (1.0 - table.fraction(*bytes, *rows));
        }
        let done = total - left;
        let growth = self.subscriptions.entry(key.clone()).or_default();
        growth.add(now, done);
        let bytes_per_second = growth.per_second();
        Some(KnownCopy {
            percent: if total > 0.0 {
                100.0 * done / total
            } else {
                0.0
            },
            bytes_per_second,
            seconds_left: bytes_per_second
                .filter(|rate| *rate > 0.0)
                .map(|rate| left / rate),
        })
    }
}

impl UnreadyTable {
    fn key(&self) -> Key {
        (self.provider.clone(), self.id)
    }

    /// With its schema.
    fn name(&self) -> String {
        format!("{}.{}", self.schema_name, self.table_name)
    }

    /// The part that is copied, as `sql/tables.sql` reckons it.
    fn fraction(&self, bytes: i64, rows: Option<f64>) -> f64 {
        let part = match (rows, self.rows_copied, self.bytes_copied) {
            (Some(rows), Some(copied), _) if rows > 0.0 => copied / rows,
            (_, _, Some(copied)) if bytes > 0 => copied / bytes as f64,
            _ => 0.0,
        };
        part.min(0.999)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::publisher::PublishedTable;

    fn table(name: &str, copied: Option<f64>) -> UnreadyTable {
        UnreadyTable {
            provider: "native".to_owned(),
            id: 1,
            schema_name: "public".to_owned(),
            table_name: name.to_owned(),
            relation: None,
            is_to_copy: true,
            pid: copied.map(|_| 5),
            rows_copied: copied,
            bytes_copied: copied,
        }
    }

    fn published() -> [PublishedTable; 3] {
        let table = |name: &str, bytes, rows| PublishedTable {
            schema_name: "public".to_owned(),
            table_name: name.to_owned(),
            bytes: Some(bytes),
            rows,
            publications: Vec::new(),
        };
        [
            table("a", 1000, Some(100.0)),
            table("b", 3000, None),
            table("c", 6000, None),
        ]
    }

    /// What is told of a subscription with these tables.
    fn told(
        copies: &mut Copies,
        unready: &[UnreadyTable],
        published: &[PublishedTable],
        now: f64,
    ) -> Option<KnownCopy> {
        copies.look(unready, now);
        let unready: Vec<_> = unready.iter().collect();
        let published: Vec<_> = published.iter().collect();
        copies.of_subscription(&key(), &unready, &published, now)
    }

    fn key() -> Key {
        ("native".to_owned(), 1)
    }

    #[test]
    fn copy_of_a_subscription_goes_by_the_publishers_sizes() {
        let mut copies = Copies::default();
        let at = |copies: &mut Copies, rows, now| {
            let unready = [table("a", Some(rows)), table("b", None)];
            told(copies, &unready, &published(), now)
        };
        let first = at(&mut copies, 0.0, 0.0).unwrap_or_default();
        assert!((first.percent - 60.0).abs() < 0.01, "{first:?}");
        assert_eq!(first.seconds_left, None);
        let second = at(&mut copies, 50.0, 10.0).unwrap_or_default();
        assert!((second.percent - 65.0).abs() < 0.01, "{second:?}");
        assert_eq!(second.bytes_per_second, Some(50.0));
        assert_eq!(second.seconds_left, Some(70.0));
    }

    #[test]
    fn tables_that_were_seen_are_done_when_they_are_seen_no_more() {
        let mut copies = Copies::default();
        let published = published();
        let published: Vec<_> = published.iter().collect();
        let left = |copies: &mut Copies, running: &[UnreadyTable]| -> String {
            copies.look(running, 0.0);
            let running: Vec<_> = running.iter().collect();
            let left = copies.not_seen_to_end(&key(), &published, &running);
            left.iter().map(|table| table.table_name.as_str()).collect()
        };
        assert_eq!(left(&mut copies, &[]), "abc");
        assert_eq!(left(&mut copies, &[table("b", Some(1.0))]), "acb");
        assert_eq!(left(&mut copies, &[table("c", Some(1.0))]), "ac");
        copies.keep(&HashSet::new());
        assert_eq!(left(&mut copies, &[]), "abc");
    }

    #[test]
    fn nothing_is_said_where_a_size_is_not_known() {
        let mut copies = Copies::default();
        assert!(told(&mut copies, &[table("unknown", None)], &published(), 0.0).is_none());
        let mut without_size = published();
        without_size[2].bytes = None;
        assert!(told(&mut copies, &[table("a", None)], &without_size, 0.0).is_none());
    }

    #[test]
    fn rate_is_that_of_the_last_samples_and_of_one_table() {
        let mut copies = Copies::default();
        for (now, bytes) in [(0.0, 0.0), (10.0, 1000.0), (60.0, 1500.0), (70.0, 1600.0)] {
            copies.look(&[table("a", Some(bytes))], now);
        }
        assert!((copies.rates()[&5] - 10.0).abs() < 0.01);
        copies.look(&[table("b", Some(10.0))], 80.0);
        assert!(copies.rates().is_empty());
        copies.look(&[], 90.0);
        assert!(copies.processes.is_empty());
    }
}
