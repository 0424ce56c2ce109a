//! What the worker of a database watches: its subscriptions, the copies that run, and what their publishers say; and what
//! comes of it: errors, events, restarts.

pub(crate) mod breaker;
mod control;
mod copy;
mod crash_event;
mod episode;
mod error_book;
pub(crate) mod event;
mod findings;
mod hazard;
mod restart;
mod sample;
mod warden;
mod watcher;

pub(crate) use hazard::{
    KeylessTable, RENAME, Suspect, Told, crashers_among, listed, loss_of, sequences_behind,
};
pub(crate) use warden::Warden;
