//! What the publisher says when it is asked: its position in the WAL, the subscription's slot, and what it publishes. A
//! publisher may be as old as 10.

mod approach;
mod conversation;
mod history;
mod inquiry;

pub(crate) use approach::{Approach, Stage};
pub(crate) use conversation::{Conversation, Interests, array, epoch};
pub(crate) use inquiry::{Inquiry, Unheard};

use super::unit::bytes;
use serde::{Deserialize, Serialize};
use std::ffi::CStr;

/// For one JSON document, [`Facts`]. `$1`: names of slots.
const FACTS_QUESTION: &CStr = c"select json_build_object(
    'now', extract(epoch from clock_timestamp()),
    'lsn', case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end - '0/0',
    'max_wal_size', (select setting::bigint * 1048576 from pg_settings where name = 'max_wal_size'),
    'max_slot_wal_keep_size', (select nullif(setting::bigint, -1) * 1048576 from pg_settings
                                where name = 'max_slot_wal_keep_size'),
    'output_plugin_libraries', (select setting from pg_settings where name = 'output_plugin_libraries'),
    'oldest_transaction_at', (select extract(epoch from min(t.at))
        from (select a.xact_start from pg_stat_activity a where a.backend_xid is not null
              union all select p.prepared from pg_prepared_xacts p) t (at)),
    'slots', (select coalesce(json_agg(json_build_object(
                  'name', s.slot_name,
                  'restart_lsn', s.restart_lsn - '0/0',
                  'confirmed_lsn', s.confirmed_flush_lsn - '0/0',
                  'replay_lsn', (select max(r.replay_lsn - '0/0') from pg_stat_replication r where r.pid = s.active_pid),
                  'walsender', (select json_build_object('pid', a.pid, 'state', r.state,
                                           'wait_event', a.wait_event_type || '/' || a.wait_event,
                                           'sent_lsn', r.sent_lsn - '0/0')
                                  from pg_stat_activity a
                                  left join pg_stat_replication r on r.pid = a.pid
                                 where a.pid = s.active_pid
                                   -- Others' are shown without what they do.
                                   and a.backend_start is not null),
                  'row', to_json(s))), '[]')
                from pg_replication_slots s where s.slot_name = any($1::text[])))";

/// Once for each connection. `$1`: how long a question may take, in milliseconds. Reading a table's size waits for whoever
/// has the table locked.
const PREPARATION: &CStr = c"select pg_catalog.set_config('statement_timeout', $1, false),
    pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false),
    pg_catalog.set_config('default_transaction_read_only', 'on', false)";

/// LSNs are bytes since 0/0.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Facts {
    /// By its clock, in seconds since 1970.
    pub(crate) now: f64,
    pub(crate) lsn: i64,
    /// In bytes.
    pub(crate) max_wal_size: Option<i64>,
    /// In bytes; `None`: without limit, or not known to a server so old.
    pub(crate) max_slot_wal_keep_size: Option<i64>,
    /// `None`: it does not have the setting.
    #[serde(default)]
    pub(crate) output_plugin_libraries: Option<String>,
    /// When the oldest transaction began that has changed something, prepared ones too, by its clock. Without the rights
    /// to see other users' sessions only those of our own.
    #[serde(default)]
    pub(crate) oldest_transaction_at: Option<f64>,
    pub(crate) slots: Vec<Slot>,
}

/// An answer that can be read, and that may be anything nevertheless.
pub(crate) trait Plausible {
    /// What it says can be: it is added and subtracted, and made a time or a position.
    fn is_plausible(&self) -> bool;
}

/// Times are in seconds since 1970: up to the year 3000.
const TIMES: std::ops::Range<f64> = 0.0..32_503_680_000.0;
/// Of a table with its TOAST table, neither of which has more than 2^32 blocks of 32 kB.
const TABLE_BYTES: std::ops::RangeInclusive<i64> = 0..=1 << 48;
const TABLE_ROWS: std::ops::Range<f64> = -1.0..1e18;

impl Plausible for Facts {
    fn is_plausible(&self) -> bool {
        let slots = self.slots.iter().flat_map(|slot| {
            let sent = slot.walsender.as_ref().and_then(|one| one.sent_lsn);
            [slot.restart_lsn, slot.confirmed_lsn, slot.replay_lsn, sent]
        });
        let numbers = [
            Some(self.lsn),
            self.max_wal_size,
            self.max_slot_wal_keep_size,
        ];
        let times = [Some(self.now), self.oldest_transaction_at];
        numbers
            .into_iter()
            .chain(slots)
            .flatten()
            .all(|one| one >= 0)
            && times.iter().flatten().all(|one| TIMES.contains(one))
    }
}

impl Plausible for Catalog {
    fn is_plausible(&self) -> bool {
        self.tables.iter().all(|table| {
            table.bytes.is_none_or(|bytes| TABLE_BYTES.contains(&bytes))
                && table.rows.is_none_or(|rows| TABLE_ROWS.contains(&rows))
        })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) restart_lsn: Option<i64>,
    pub(crate) confirmed_lsn: Option<i64>,
    /// What its walsender knows to be applied.
    pub(crate) replay_lsn: Option<i64>,
    /// Whoever sends what the slot has kept, as far as the publisher lets us see what it does.
    #[serde(default)]
    pub(crate) walsender: Option<Walsender>,
    pub(crate) row: SlotRow,
}

/// The process of the publisher that decodes its WAL for a subscription.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Walsender {
    pub(crate) pid: i32,
    /// startup, catchup, streaming, ...
    pub(crate) state: Option<String>,
    /// As [`Worker::wait_event`](super::provider::Worker::wait_event).
    pub(crate) wait_event: Option<String>,
    pub(crate) sent_lsn: Option<i64>,
}

impl Walsender {
    /// It waits until the subscriber takes what it sends.
    pub(crate) fn is_sending(&self) -> bool {
        self.wait_event
            .as_deref()
            .is_some_and(|event| event.ends_with("/WalSenderWriteData"))
    }

    /// It is at work, and not waiting for new WAL or for the network.
    pub(crate) fn is_busy(&self) -> bool {
        self.wait_event.as_deref().is_none_or(|event| {
            // Decoding spills large transactions to disk.
            event.starts_with("IO/") || event.starts_with("LWLock/")
        })
    }
}

/// The columns of `pg_replication_slots` that are not in every version, and `active`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct SlotRow {
    pub(crate) active: bool,
    pub(crate) active_pid: Option<i32>,
    /// 13+: reserved, extended, unreserved or lost.
    pub(crate) wal_status: Option<String>,
    /// 13+: bytes that can be written before the slot is in danger.
    pub(crate) safe_wal_size: Option<i64>,
    /// 16+
    pub(crate) conflicting: Option<bool>,
    /// 17+
    pub(crate) invalidation_reason: Option<String>,
}

impl SlotRow {
    /// It no longer has what it had to keep.
    pub(crate) fn is_invalidated(&self) -> bool {
        self.wal_status.as_deref() == Some("lost")
            || self.conflicting == Some(true)
            || self.invalidation_reason.is_some()
    }
}

/// What it publishes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct Catalog {
    /// Those of the subscription that there are: publications, or replication sets.
    pub(crate) publications: Vec<String>,
    pub(crate) tables: Vec<PublishedTable>,
    /// Those that were asked for ([`Interests::described`]), and of which there is something to tell: natively, those with
    /// REPLICA IDENTITY FULL whose UPDATE or DELETE is published.
    #[serde(default)]
    pub(crate) described: Vec<DescribedTable>,
}

/// How a table is published. Comes as an array of these.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct DescribedTable {
    pub(crate) schema_name: String,
    pub(crate) table_name: String,
    /// The columns that are sent.
    pub(crate) columns: Vec<String>,
    /// Those of its primary key; natively.
    pub(crate) key: Vec<String>,
    /// Natively, those that publish its UPDATE or DELETE.
    pub(crate) publications: Vec<String>,
}

/// Comes as an array of these.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct PublishedTable {
    pub(crate) schema_name: String,
    pub(crate) table_name: String,
    /// With its TOAST table, without indexes; `None`: not asked for, or partitioned.
    pub(crate) bytes: Option<i64>,
    /// As the last ANALYZE estimated them.
    pub(crate) rows: Option<f64>,
    /// In which it is.
    pub(crate) publications: Vec<String>,
}

impl Catalog {
    /// The tables of some publications.
    pub(crate) fn tables_of(
        &self,
        publications: &[String],
    ) -> impl Iterator<Item = &PublishedTable> {
        let tables = self.tables.iter();
        tables.filter(|table| {
            table
                .publications
                .iter()
                .any(|one| publications.contains(one))
        })
    }
}

/// Warns before the WAL that a slot retains becomes the publisher's disk problem, or the slot is lost. Sizes in bytes.
pub(crate) fn retention_warning(
    row: &SlotRow,
    retained: Option<i64>,
    max_wal_size: Option<i64>,
    max_slot_wal_keep_size: Option<i64>,
) -> Option<String> {
    if row.is_invalidated() {
        return Some("The replication slot has lost WAL that this subscription needs.".to_owned());
    }
    let retained = retained?;
    let held = || format!("The replication slot holds back {} of WAL", bytes(retained));
    if row.wal_status.as_deref() == Some("unreserved") {
        return Some(format!(
            "{}: more than max_slot_wal_keep_size, and the publisher removes it at its next checkpoint.",
            held()
        ));
    }
    match (max_slot_wal_keep_size, row.safe_wal_size) {
        (Some(limit), Some(left)) if left < limit / 4 => Some(format!(
            "{}; after {} more the publisher drops it (max_slot_wal_keep_size), and the subscription is lost.",
            held(),
            bytes(left.max(0))
        )),
        (None, _) if max_wal_size.is_some_and(|most| retained > most.saturating_mul(2)) => {
            Some(format!(
                "{} on the publisher, more than twice its max_wal_size, and nothing limits it but the disk.",
                held()
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: i64 = 1 << 30;

    fn row(wal_status: &str, safe_wal_size: Option<i64>) -> SlotRow {
        SlotRow {
            wal_status: Some(wal_status.to_owned()),
            safe_wal_size,
            ..SlotRow::default()
        }
    }

    #[test]
    fn little_wal_retained_is_no_reason_to_warn() {
        let reserved = row("reserved", None);
        assert_eq!(retention_warning(&reserved, Some(GB), Some(GB), None), None);
        let limited = row("reserved", Some(9 * GB));
        let limit = Some(10 * GB);
        assert_eq!(retention_warning(&limited, Some(GB), Some(GB), limit), None);
    }

    #[test]
    fn warns_before_the_limit_is_reached() {
        let near = row("extended", Some(2 * GB));
        let warning = retention_warning(&near, Some(8 * GB), Some(GB), Some(10 * GB));
        assert!(warning.is_some_and(|text| text.contains("after 2.0 GB more")));
        assert!(retention_warning(&row("lost", None), None, Some(GB), None).is_some());
        let beyond = row("unreserved", Some(-1));
        assert!(retention_warning(&beyond, Some(11 * GB), Some(GB), Some(10 * GB)).is_some());
    }

    #[test]
    fn warns_of_a_full_disk_where_nothing_limits() {
        let extended = row("extended", None);
        let warning = retention_warning(&extended, Some(3 * GB), Some(GB), None);
        assert!(warning.is_some_and(|text| text.contains("3.0 GB")));
    }

    #[test]
    fn slot_is_invalidated_by_any_of_three_signs() {
        assert!(row("lost", None).is_invalidated());
        let conflicting = SlotRow {
            conflicting: Some(true),
            ..SlotRow::default()
        };
        assert!(conflicting.is_invalidated());
        let idle = SlotRow {
            invalidation_reason: Some("idle_timeout".to_owned()),
            ..SlotRow::default()
        };
        assert!(idle.is_invalidated());
        assert!(!row("extended", None).is_invalidated());
    }
}
