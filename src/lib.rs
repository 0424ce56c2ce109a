//! replwarden: for the subscriber of a PostgreSQL logical replication.
//!
//! `generated` computes derived columns for replicated rows and brings existing rows up; `subscription` knows what
//! replicates and how it is doing, `watch` looks at it again and again, `report` says it to people; `worker` runs what has to
//! run without a session. Everything that needs `unsafe` is walled in by `pg`, but for the row trigger and the entry points
//! of workers.
#![deny(unsafe_code)]

use pgrx::prelude::*;

mod error;
mod generated;
mod guc;
mod migrate;
mod pg;
mod preflight;
mod report;
mod subscription;
mod watch;
mod worker;

pgrx::pg_module_magic!(name, version);

/// Called when the library is loaded: by the postmaster if it is preloaded, else by each session that uses it.
#[pg_guard]
extern "C-unwind" fn _PG_init() {
    guc::init();
    worker::init();
}

extension_sql_file!("../sql/subscription.sql", name = "subscription");
extension_sql_file!(
    "../sql/errors.sql",
    name = "errors",
    requires = ["backfill"]
);
extension_sql_file!("../sql/generated.sql", name = "generated");
extension_sql_file!("../sql/backfill.sql", name = "backfill");
extension_sql_file!(
    "../sql/generated_columns_view.sql",
    name = "generated_columns_view",
    requires = ["generated", "backfill"]
);
extension_sql_file!(
    "../sql/tables.sql",
    name = "tables",
    requires = ["subscription", "errors"]
);
extension_sql_file!(
    "../sql/status.sql",
    name = "status",
    requires = ["generated_columns_view", "tables"]
);
extension_sql_file!("../sql/watch.sql", name = "watch", requires = ["backfill"]);
extension_sql_file!("../sql/preflight.sql", name = "preflight");
extension_sql_file!("../sql/sequences.sql", name = "sequences");
extension_sql_file!(
    "../sql/cutover.sql",
    name = "cutover",
    requires = ["generated_columns_view", "backfill"]
);
extension_sql_file!(
    "../sql/foreign_keys.sql",
    name = "foreign_keys",
    requires = ["backfill", "tables"]
);
extension_sql_file!("../sql/resync.sql", name = "resync");
