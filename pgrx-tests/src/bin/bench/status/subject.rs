//! What is asked, and the plain queries that read the same rows.

/// A table of its own, because no catalog has what `repl_sync_states` says.
pub(super) const PREPARATION: &str =
    "create temp table sync_states as select * from repl_sync_states;
analyze sync_states";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Subscriptions,
    Tables,
    /// The same view, against a query that reads the codes only, without names, workers and copies.
    TableCodes,
    Workers,
    SyncStates,
    Status,
    Snapshot,
}

impl Subject {
    pub(super) const ALL: [Self; 7] = [
        Self::Subscriptions,
        Self::Tables,
        Self::TableCodes,
        Self::Workers,
        Self::SyncStates,
        Self::Status,
        Self::Snapshot,
    ];

    /// In a report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Subscriptions => "repl_subscriptions",
            Self::Tables => "repl_tables",
            Self::TableCodes => "repl_tables (codes)",
            Self::Workers => "repl_workers",
            Self::SyncStates => "repl_sync_states",
            Self::Status => "repl_status()",
            Self::Snapshot => "repl_snapshot()",
        }
    }

    pub(super) fn statement(self) -> &'static str {
        match self {
            Self::Subscriptions => "select * from repl_subscriptions",
            Self::TableCodes | Self::Tables => "select * from repl_tables",
            Self::Workers => "select * from repl_workers",
            Self::SyncStates => "select * from repl_sync_states",
            Self::Status => "select repl_status()",
            Self::Snapshot => "select repl_snapshot()",
        }
    }

    /// One after the other, their times are added. What repl_status() and repl_snapshot() make of the rows, they do
    /// besides.
    pub(super) fn plain(self, major: u32) -> Vec<String> {
        match self {
            Self::Subscriptions => vec![subscriptions(major)],
            Self::TableCodes => vec![tables("")],
            Self::Tables => vec![TABLES.to_owned()],
            Self::Workers => vec![WORKERS.to_owned()],
            Self::SyncStates => vec!["select * from sync_states".to_owned()],
            Self::Status => vec![subscriptions(major), tables(NOT_READY)],
            Self::Snapshot => vec![subscriptions(major), tables(NOT_READY), WORKERS.to_owned()],
        }
    }

    /// The promise is for the report and the views, each against what it reads.
    pub(super) fn has_target(self) -> bool {
        !matches!(self, Self::TableCodes | Self::Snapshot)
    }

    pub(super) fn returns_the_same_rows(self) -> bool {
        !matches!(self, Self::Status | Self::Snapshot)
    }
}

const NOT_READY: &str = "\n   and r.srsubstate <> 'r'";

fn tables(condition: &str) -> String {
    format!(
        "select s.subname, r.srrelid::regclass, r.srsubstate, r.srsublsn
  from pg_subscription_rel r
  join pg_subscription s on s.oid = r.srsubid
 where s.subdbid = (select oid from pg_database where datname = current_database()){condition}"
    )
}

const TABLES: &str = "select s.subname, r.srrelid::regclass, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
       r.srsubstate, r.srsublsn, w.pid, p.tuples_processed, p.bytes_processed, p.bytes_total
  from pg_subscription_rel r
  join pg_subscription s on s.oid = r.srsubid
  left join pg_class c on c.oid = r.srrelid
  left join pg_namespace n on n.oid = c.relnamespace
  left join pg_stat_subscription w on w.subid = r.srsubid and w.relid = r.srrelid
  left join pg_stat_progress_copy p on p.pid = w.pid
 where s.subdbid = (select oid from pg_database where datname = current_database())";

const WORKERS: &str = "select s.subname, a.backend_type, s.relid::regclass, a.pid, a.backend_start,
       a.wait_event_type, a.wait_event,
       case when a.wait_event_type = 'Lock' then pg_blocking_pids(a.pid) end
  from pg_stat_activity a
  left join pg_stat_subscription s on s.pid = a.pid
 where a.backend_type like 'logical replication%'";

/// 14 counts no errors of subscriptions.
fn subscriptions(major: u32) -> String {
    let (columns, join) = if major >= 15 {
        (
            ", e.apply_error_count, e.sync_error_count",
            "\n  left join pg_stat_subscription_stats e on e.subid = s.oid",
        )
    } else {
        ("", "")
    };
    format!(
        "select s.subname, s.subenabled, s.subslotname, s.subpublications, t.total, t.ready, w.pid,
       w.received_lsn, w.latest_end_lsn, w.last_msg_receipt_time, o.remote_lsn{columns}
  from pg_subscription s
  left join (select srsubid, count(*) as total, count(*) filter (where srsubstate = 'r') as ready
               from pg_subscription_rel group by srsubid) t on t.srsubid = s.oid
  left join pg_stat_subscription w on w.subid = s.oid and w.relid is null{join}
  left join pg_replication_origin_status o on o.external_id = 'pg_' || s.oid
 where s.subdbid = (select oid from pg_database where datname = current_database())"
    )
}
