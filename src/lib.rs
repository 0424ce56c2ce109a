//! replwarden: for the subscriber of a PostgreSQL logical replication.
//!
//! `generated` computes derived columns for replicated rows, `subscription` puts replication states into
//! words. Everything that needs `unsafe` is walled in by `pg`, but for the row trigger itself.
#![deny(unsafe_code)]

use pgrx::prelude::*;

mod error;
mod generated;
mod pg;
mod subscription;

pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/subscription.sql", name = "subscription");
extension_sql_file!("../sql/generated.sql", name = "generated");
extension_sql_file!(
    "../sql/generated_columns_view.sql",
    name = "generated_columns_view",
    requires = ["generated"]
);
