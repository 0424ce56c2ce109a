//! The wall around `unsafe`: safe types over the parts of the server that the rest of the code uses.
#![allow(unsafe_code)]

pub(crate) mod background;
pub(crate) mod compiled;
mod compiled_column;
pub(crate) mod databases;
pub(crate) mod error_note;
pub(crate) mod expression;
pub(crate) mod lock;
pub(crate) mod name;
pub(crate) mod raw;
pub(crate) mod relation;
pub(crate) mod row_pass;
pub(crate) mod session;
pub(crate) mod session_events;
pub(crate) mod shared;
pub(crate) mod spi;
pub(crate) mod subtransaction;
pub(crate) mod tid;
pub(crate) mod transaction;
pub(crate) mod trigger;
pub(crate) mod version;
