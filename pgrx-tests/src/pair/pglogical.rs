//! The SQL of pglogical 2.4.

use super::publication::{Publication, PublishedTable};
use super::{Pair, SUBSCRIPTION};

pub(super) const SLOT_NAME: &str =
    "select slot_name from pglogical.show_subscription_status('sub')";

pub(super) const DISABLE: &str =
    "select pglogical.alter_subscription_disable('sub', immediate := true)";
pub(super) const ENABLE: &str =
    "select pglogical.alter_subscription_enable('sub', immediate := true)";

/// The subscription's own row has no table name and is there first, alone: the tables' rows follow when their copy is
/// done. A table copied with the subscription ends as `r`, one that was copied again as `y` until the stream passes it.
pub(super) const NOT_READY: &str = "
    select coalesce(sync_relname::text, 'the subscription itself'), sync_status::text
    from pglogical.local_sync_status
    where sync_status <> 'r' and (sync_relname is null or sync_status <> 'y')
    union all
    select 'status', status from pglogical.show_subscription_status('sub') where status <> 'replicating'
    union all
    select 'no state yet', null where not exists (select from pglogical.local_sync_status)";

/// pglogical has no view of its workers; they are named `pglogical apply <database>:<subscription>`.
pub(super) const APPLY_WORKER_PID: &str = "
    select (select pid from pg_stat_activity join pglogical.subscription on sub_name = 'sub'
            where datname = current_database()
              and backend_type = format('pglogical apply %s:%s', datid, sub_id))";

pub(super) fn create_nodes(pair: &Pair) {
    for (cluster, node) in [
        (&pair.publisher, "provider"),
        (&pair.subscriber, "subscriber"),
    ] {
        cluster.execute(&pair.database, "create extension pglogical");
        cluster.execute(
            &pair.database,
            &format!(
                "select pglogical.create_node(node_name := '{node}', dsn := '{}')",
                cluster.conninfo(&pair.database)
            ),
        );
    }
}

pub(super) fn publish_sql(publication: &Publication) -> Vec<String> {
    assert!(
        publication.options.is_empty(),
        "pglogical has no publication options: {:?}",
        publication.options
    );
    publication.tables.iter().map(add_table_sql).collect()
}

fn add_table_sql(table: &PublishedTable) -> String {
    let columns = match &table.columns {
        Some(columns) => format!(",\n    columns := '{{{}}}'", columns.join(", ")),
        None => String::new(),
    };
    format!(
        "select pglogical.replication_set_add_table('default', '{}'{columns})",
        table.name
    )
}

pub(super) fn subscribe_sql(publisher: &str, copy: bool) -> String {
    format!(
        "select pglogical.create_subscription('{SUBSCRIPTION}',
    provider_dsn := '{publisher}',
    replication_sets := '{{default}}', synchronize_data := {copy})"
    )
}
