//! Sequences that will give values that their columns have already: rows arrive with the publisher's numbers, and the
//! sequences here stand still.

use super::{Cause, Hazard, Key, RENAME, Told, is_plain, key, listed, shown};
use crate::error::Error;
use crate::pg::{catalog_change, session, spi};
use crate::subscription::provider::Subscription;
use crate::subscription::quote::literal;
use pgrx::pg_sys;
use pgrx::spi::{SpiHeapTupleData, SpiResult};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CStr;
use std::fmt::Write as _;
use std::sync::LazyLock;

/// So many sequences are looked at each time, and besides those that the remedy names.
const LOOKED_AT: i32 = 100;
const NAMED: usize = 20;
/// So many tables and partitions are read each time, which bounds the locks.
const READ: usize = 400;

/// The end of an index is what tells the largest value; a plan that reads the table would not end. What is switched off counts
/// as very expensive where there is no other way, as to read a sequence, and would be compiled before it is run.
const SETTINGS: [(&CStr, &CStr); 4] = [
    (c"jit", c"off"),
    (c"enable_seqscan", c"off"),
    (c"enable_indexscan", c"on"),
    (c"enable_indexonlyscan", c"on"),
];

static WITH_NATIVE: LazyLock<String> = LazyLock::new(|| {
    include_str!("../sql/sequence_hazards.sql").replace(
        "{subscribers}",
        include_str!("../sql/native_hazard_subscribers.sql"),
    )
});
/// Where pglogical is not installed, a query that names its tables is an error.
static WITH_BOTH: LazyLock<String> = LazyLock::new(|| {
    let both = [
        include_str!("../sql/native_hazard_subscribers.sql"),
        include_str!("../sql/pglogical_hazard_subscribers.sql"),
    ];
    include_str!("../sql/sequence_hazards.sql").replace("{subscribers}", &both.join("union all\n"))
});

/// `sql/sequence_hazards.sql`
#[derive(Deserialize)]
struct Candidates {
    /// The last sequence that was looked at after the one to go on from, and how many.
    last: u32,
    looked_at: i32,
    /// In the order of their sequences, but those first that are looked at in any case.
    probes: Vec<Probe>,
}

/// A column that a sequence gives values to.
#[derive(Debug, Clone, Default, Deserialize)]
struct Probe {
    sequence: u32,
    /// With its schema, quoted where need be, as the names below.
    sequence_name: String,
    sequence_owner: u32,
    increment: i64,
    /// The least and the largest value that it can give.
    from: i64,
    to: i64,
    table_name: String,
    table_owner: u32,
    column: String,
    /// The type of the column.
    r#type: String,
    is_partitioned: bool,
    /// Schema and name of the table, and of its partitions.
    tables: Vec<(String, String)>,
    /// Subscriptions that say that they replicate one of these.
    subscribers: HashSet<Key>,
}

/// A sequence that is behind.
#[derive(Debug, Clone, Default, PartialEq)]
struct Behind {
    name: String,
    column: String,
    /// What it would give next.
    next: i64,
    /// What the column has.
    value: i64,
    /// Where to set it.
    target: i64,
    subscribers: HashSet<Key>,
}

/// What was read for a probe.
struct Reading {
    /// Its place.
    probe: usize,
    /// The largest value that the sequence could give, or the smallest if it counts down; `None`: there is none.
    value: Option<String>,
    last_value: i64,
    is_called: bool,
}

#[derive(Default)]
pub(super) struct Sequences {
    /// The sequence to go on after.
    last: u32,
    behind: BTreeMap<u32, Behind>,
    found: Vec<Hazard>,
}

impl Sequences {
    pub(super) fn found(&self) -> &[Hazard] {
        &self.found
    }

    /// The next look begins with the first again.
    pub(super) fn is_through(&self) -> bool {
        self.last == 0
    }

    pub(super) fn look(
        &mut self,
        subscriptions: &[Subscription],
        told: &HashMap<Key, Told>,
    ) -> Result<(), Error> {
        if !subscriptions.is_empty() {
            self.probe(subscriptions, told)?;
        }
        let hazards = subscriptions.iter();
        self.found = hazards
            .filter_map(|one| hazard(one, &self.behind))
            .collect();
        Ok(())
    }

    fn probe(
        &mut self,
        subscriptions: &[Subscription],
        told: &HashMap<Key, Told>,
    ) -> Result<(), Error> {
        let has_pglogical = subscriptions.iter().any(|one| one.provider == "pglogical");
        let query = if has_pglogical {
            &WITH_BOTH
        } else {
            &WITH_NATIVE
        };
        let again: Vec<u32> = self.behind.keys().take(NAMED).copied().collect();
        let oids: Vec<pg_sys::Oid> = again.iter().map(|one| (*one).into()).collect();
        let arguments = [
            // As an OID, 0 would be NULL.
            i64::from(self.last).into(),
            LOOKED_AT.into(),
            oids.into(),
        ];
        let mut candidates: Candidates = spi::document(query, &arguments)?;
        candidates.keep_replicated(subscriptions, told);
        let before = self.last;
        let end = candidates.cut(before, &again);
        // Before the reading, which may fail: the next are looked at all the same.
        self.last = if end == u32::MAX { 0 } else { end };
        let readings = candidates.read()?;
        self.behind.retain(|sequence, _| {
            !again.contains(sequence) && (*sequence <= before || end < *sequence)
        });
        self.behind.extend(candidates.behind(&readings));
        if candidates.looked_at >= LOOKED_AT {
            // There are more: all together they would fill the memory of this process.
            catalog_change::forget_definitions();
        }
        Ok(())
    }
}

impl Candidates {
    /// Leaves what some subscription replicates, as far as the catalogs here and the publishers say.
    fn keep_replicated(&mut self, subscriptions: &[Subscription], told: &HashMap<Key, Told>) {
        for probe in &mut self.probes {
            for key in subscriptions.iter().map(key) {
                let mut tables = probe.tables.iter();
                let told = told.get(&key);
                if told.is_some_and(|told| tables.any(|one| told.published.contains(one))) {
                    probe.subscribers.insert(key);
                }
            }
        }
        self.probes.retain(|probe| !probe.subscribers.is_empty());
    }

    /// Leaves as much as may be read at once, of no sequence a part only if that can be. Returns the last sequence that was
    /// looked at then; `u32::MAX`: there is none after it.
    fn cut(&mut self, before: u32, again: &[u32]) -> u32 {
        let mut number = 0;
        let fits = self.probes.iter().position(|probe| {
            number += probe.tables.len();
            number > READ
        });
        let Some(place) = fits else {
            return if self.looked_at < LOOKED_AT {
                u32::MAX
            } else {
                self.last
            };
        };
        let first_left_out = self.probes[place].sequence;
        let is_whole = self.probes[0].sequence != first_left_out;
        self.probes.truncate(place);
        if is_whole {
            self.probes.retain(|probe| probe.sequence != first_left_out);
        }
        let kept = self.probes.iter().map(|probe| probe.sequence);
        kept.filter(|sequence| !again.contains(sequence))
            .max()
            .unwrap_or(before)
    }

    fn read(&self) -> Result<Vec<Reading>, Error> {
        if self.probes.is_empty() {
            return Ok(Vec::new());
        }
        let probes = || self.probes.iter().enumerate();
        let columns = probes().map(|(place, probe)| (probe.table_owner, probe.column_query(place)));
        let sequences =
            probes().map(|(place, probe)| (probe.sequence_owner, probe.sequence_query(place)));
        // The columns first: what they get meanwhile, the sequences have given.
        session::with_settings(&SETTINGS, || {
            let values = spi::read_as_owners(columns, |row| Ok((place(row)?, row.get(2)?)))?;
            let mut values: HashMap<usize, Option<String>> = values.into_iter().collect();
            spi::read_as_owners(sequences, |row| {
                Ok((place(row)?, spi::required(row, 2)?, spi::required(row, 3)?))
            })
            .map(|positions| {
                let readings = positions.into_iter();
                readings
                    .map(|(probe, last_value, is_called)| Reading {
                        probe,
                        value: values.remove(&probe).flatten(),
                        last_value,
                        is_called,
                    })
                    .collect()
            })
        })
    }

    fn behind(&self, readings: &[Reading]) -> BTreeMap<u32, Behind> {
        let mut found: BTreeMap<u32, Behind> = BTreeMap::new();
        for reading in readings {
            let probe = &self.probes[reading.probe];
            let Some(behind) = probe.behind(reading) else {
                continue;
            };
            // It may give the values of several columns.
            match found.get_mut(&probe.sequence) {
                Some(other) => other.join(behind, probe.increment),
                None => {
                    found.insert(probe.sequence, behind);
                }
            }
        }
        found
    }
}

/// The first column.
fn place(row: &SpiHeapTupleData) -> SpiResult<usize> {
    Ok(usize::try_from(spi::required::<i32>(row, 1)?).unwrap_or_default())
}

impl Probe {
    fn column_query(&self, place: usize) -> String {
        let (most, at_most, limit) = if self.increment > 0 {
            ("max", "<=", self.to)
        } else {
            ("min", ">=", self.from)
        };
        let only = if self.is_partitioned { "" } else { "only " };
        let kind = if self.r#type == "numeric" {
            "numeric"
        } else {
            "bigint"
        };
        format!(
            "select {place}, (select {most}(t.{column})::text from {only}{table} t where t.{column} {at_most} '{limit}'::{kind})",
            column = self.column,
            table = self.table_name,
        )
    }

    fn sequence_query(&self, place: usize) -> String {
        format!(
            "select {place}, s.last_value, s.is_called from {} s",
            self.sequence_name
        )
    }

    fn behind(&self, reading: &Reading) -> Option<Behind> {
        let value = whole(reading.value.as_deref()?)?;
        let (last, step) = (i128::from(reading.last_value), i128::from(self.increment));
        let next = if reading.is_called { last + step } else { last };
        let is_behind = if step > 0 {
            next <= value
        } else {
            next >= value
        };
        if !is_behind {
            return None;
        }
        // A sequence may give each second number only, because somebody else gives the others.
        let steps = ((value - last).abs() + step.abs() - 1) / step.abs();
        let target = (last + steps * step).clamp(self.from.into(), self.to.into());
        let narrow = |number: i128| i64::try_from(number).ok();
        Some(Behind {
            name: self.sequence_name.clone(),
            column: format!("{}.{}", self.table_name, self.column),
            next: narrow(next)?,
            value: narrow(value)?,
            target: narrow(target)?,
            subscribers: self.subscribers.clone(),
        })
    }
}

impl Behind {
    /// Takes up what another column says of the same sequence.
    fn join(&mut self, other: Self, increment: i64) {
        let subscribers = &self.subscribers | &other.subscribers;
        let is_farther = if increment > 0 {
            other.target > self.target
        } else {
            other.target < self.target
        };
        if is_farther {
            *self = other;
        }
        self.subscribers = subscribers;
    }
}

/// The part before the point of a number as the server writes it; `None`: it is none.
fn whole(text: &str) -> Option<i128> {
    text.split('.').next()?.parse().ok()
}

/// Of the sequences that are behind, one hazard of a subscription: until the cut-over all of them may be.
fn hazard(subscription: &Subscription, behind: &BTreeMap<u32, Behind>) -> Option<Hazard> {
    let key = key(subscription);
    let mut behind: Vec<&Behind> = behind
        .values()
        .filter(|one| one.subscribers.contains(&key))
        .collect();
    behind.sort_by(|one, other| one.name.cmp(&other.name));
    let first = behind.first()?;
    let example = format!(
        "{} gives {} next, and {} has {}",
        shown(&first.name),
        first.next,
        shown(&first.column),
        first.value
    );
    let names: Vec<String> = behind.iter().map(|one| one.name.clone()).collect();
    let finding = match behind.len() {
        1 => format!(
            "A sequence is behind its column ({example}): after the cut-over, INSERT fails with a duplicate key."
        ),
        number => format!(
            "{number} sequences are behind their columns, {} ({example}): after the cut-over, INSERT fails with duplicate keys.",
            listed(&names)
        ),
    };
    let evidence: Vec<_> = behind
        .iter()
        .take(NAMED)
        .map(|one| {
            serde_json::json!({
                "sequence": one.name, "next_value": one.next, "column": one.column, "column_value": one.value,
            })
        })
        .collect();
    Some(Hazard {
        finding,
        evidence: serde_json::json!({ "number": behind.len(), "sequences": evidence }),
        remedy: Some(remedy(&behind)),
        ..Hazard::new(subscription, Cause::SequenceBehind, None)
    })
}

fn remedy(behind: &[&Behind]) -> String {
    let mut text = String::new();
    for one in behind.iter().take(NAMED) {
        let separator = if text.is_empty() { "" } else { "\n" };
        let _ = if is_plain(&one.name) {
            write!(
                text,
                "{separator}SELECT setval({}, {});",
                literal(&one.name),
                one.target
            )
        } else {
            write!(text, "{separator}{RENAME}")
        };
    }
    if behind.len() > NAMED {
        let _ = write!(
            text,
            " -- and {} more, which come up then",
            behind.len() - NAMED
        );
    }
    text
}

#[cfg(test)]
mod tests;
