//! Throw-away PostgreSQL clusters for tests, demo and benchmarks: a publisher and a subscriber in temporary
//! directories on free loopback ports, gone when their values are dropped.
//!
//! A helper that cannot do its work panics and says why: its callers are tests. Linux only, because it looks at
//! `/proc` to see a killed server's processes end.

mod cluster;
mod janitor;
mod os_user;
mod pair;
mod proxy;
mod rows;
mod server;
mod template;
mod wait;

pub use cluster::{Cluster, ClusterBuilder, ShutdownMode};
pub use os_user::OsUser;
pub use pair::{Pair, PairBuilder, Provider, Publication, SUBSCRIPTION};
pub use proxy::Proxy;
pub use rows::{TextRow, assert_same_rows};
pub use server::Server;
pub use wait::{DEFAULT_DEADLINE, RELAUNCH_DEADLINE, wait_for_value, wait_until};
