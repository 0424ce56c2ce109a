//! Help on the way to the cut-over: foreign keys that stand in the way of a copy, tables that are copied again, sequences, and
//! what is left to be done.

mod copy_guard;
mod cutover;
pub(crate) mod foreign_key;
mod resync;
mod sequence;
