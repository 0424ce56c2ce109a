//! Help on the way to the cut-over: foreign keys that stand in the way of a copy, tables that are copied again.

pub(crate) mod foreign_key;
mod resync;
