//! Behaviour on real clusters, one module a topic. One binary, so that it links once and all tests share the machine's
//! cores.

mod harness;
mod loan;
mod replication;
mod replication_adopt;
mod replication_expressions;
mod replication_partitions;
