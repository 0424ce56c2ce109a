//! Subscriptions, native and of pglogical.

mod state;
