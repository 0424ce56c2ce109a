//! What came with a version of PostgreSQL.

use replwarden_tests::{Pair, Server};

/// Whether the server under test has what came with this version. Says so where it has not.
pub(crate) fn since(major: u32, what: &str) -> bool {
    let has_it = tested().major() >= major;
    if !has_it {
        eprintln!("skipped: {what} came with PostgreSQL {major}");
    }
    has_it
}

/// The setting of a subscriber that says how many origins it has room for.
pub(crate) fn origin_limit() -> &'static str {
    match tested().major() {
        ..=17 => "max_replication_slots",
        _ => "max_active_replication_origins",
    }
}

fn tested() -> Server {
    Server::find().unwrap_or_else(|message| panic!("{message}"))
}

/// Lets the workers of the subscription connect without a password and write as its owner, as they did up to 15, also after
/// the owner is no superuser any more.
#[track_caller]
pub(crate) fn run_as_before_16(pair: &Pair) {
    if pair.subscriber().server().major() >= 16 {
        pair.on_subscriber(
            "alter subscription sub set (password_required = false, run_as_owner = true)",
        );
    }
}
