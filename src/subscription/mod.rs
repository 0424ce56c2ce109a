//! Subscriptions, native and of pglogical: what they are, and how they are doing.

pub(crate) mod access;
pub(crate) mod captured;
pub(crate) mod cause;
pub(crate) mod condition;
pub(crate) mod conninfo;
pub(crate) mod diagnose;
mod failure;
pub(crate) mod finding;
pub(crate) mod hazard;
pub(crate) mod known;
mod native;
mod pglogical;
pub(crate) mod progress;
pub(crate) mod provider;
pub(crate) mod publisher;
pub(crate) mod quote;
mod remedy;
mod state;
pub(crate) mod status;
pub(crate) mod tables;
pub(crate) mod unit;
mod view;
pub(crate) mod witness;
