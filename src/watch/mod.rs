//! What the worker of a database watches: its subscriptions, the copies that run, and what their publishers say.

mod copy;
mod sample;
mod watcher;

pub(crate) use watcher::Watcher;
