//! Behaviour on real clusters, one module a topic. One binary, so that it links once and all tests share the machine's
//! cores.

mod backfill;
mod column_types;
mod database;
mod ddl;
mod harness;
mod loan;
mod local_partitions;
mod local_writes;
mod on_error;
mod refusals;
mod refused_expressions;
mod refused_triggers;
mod replication;
mod replication_adopt;
mod replication_expressions;
mod replication_partitions;
