//! The SQL of PostgreSQL's own logical replication.

use super::publication::Publication;
use super::{PUBLICATION, SUBSCRIPTION};

pub(super) const SLOT_NAME: &str =
    "select subslotname::text from pg_subscription where subname = 'sub'";

pub(super) const DISABLE: &str = "alter subscription sub disable";
pub(super) const ENABLE: &str = "alter subscription sub enable";

/// The tables that are not in the main stream yet, with their states.
pub(super) const NOT_READY: &str =
    "select srrelid::regclass, srsubstate from pg_subscription_rel where srsubstate <> 'r'";

pub(super) fn publish_sql(publication: &Publication) -> String {
    let tables: Vec<String> = publication
        .tables
        .iter()
        .map(|table| match &table.columns {
            Some(columns) => format!("{} ({})", table.name, columns.join(", ")),
            None => table.name.clone(),
        })
        .collect();
    let mut sql = format!(
        "create publication {PUBLICATION} for table {}",
        tables.join(", ")
    );
    if !publication.options.is_empty() {
        let options: Vec<String> = publication
            .options
            .iter()
            .map(|(name, value)| format!("{name} = '{value}'"))
            .collect();
        sql.push_str(&format!(" with ({})", options.join(", ")));
    }
    sql
}

pub(super) fn subscribe_sql(publisher: &str, copy: bool) -> String {
    let options = if copy {
        ""
    } else {
        " with (copy_data = false)"
    };
    format!(
        "create subscription {SUBSCRIPTION}
    connection '{publisher}'
    publication {PUBLICATION}{options}"
    )
}

/// The view also lists table synchronisation and, from 16 on, parallel apply workers.
pub(super) fn apply_worker_pid_sql(major: u32) -> &'static str {
    match major {
        ..=15 => {
            "select (select pid from pg_stat_subscription where subname = 'sub' and relid is null)"
        }
        16 => {
            "select (select pid from pg_stat_subscription
                       where subname = 'sub' and relid is null and leader_pid is null)"
        }
        _ => {
            "select (select pid from pg_stat_subscription where subname = 'sub' and worker_type = 'apply')"
        }
    }
}
