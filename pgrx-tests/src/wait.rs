//! Waiting for a condition with a deadline and a description: the only place of this crate that sleeps.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

/// Far above what any wait needs on an idle machine, because tests run in parallel on slow ones too: a deadline tells
/// "never" from "late", it does not measure speed.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);

/// For a worker that pglogical starts again: its manager sleeps for longer and longer while nothing happens (up to
/// `MAX_SLEEP` of pglogical_manager.c, 180 s).
pub const RELAUNCH_DEADLINE: Duration = Duration::from_secs(120 + 180);

/// Asking takes time of the machine that is to bring about what is waited for, so the pause is longer than the question was.
fn pause(asked: Duration) {
    const SHORTEST: Duration = Duration::from_millis(25);
    const LONGEST: Duration = Duration::from_millis(250);
    thread::sleep((asked * 3).clamp(SHORTEST, LONGEST));
}

/// Waits until `condition` holds. `what` completes the sentence "waited 120s in vain until …".
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, condition: impl FnMut() -> bool) {
    if !holds_within(deadline, condition) {
        panic!("waited {deadline:?} in vain until {what}");
    }
}

/// Waits until `accept` likes what `observe` sees, and returns it; a timeout reports the value seen last.
#[track_caller]
pub fn wait_for_value<T: Debug>(
    what: &str,
    deadline: Duration,
    mut observe: impl FnMut() -> T,
    accept: impl Fn(&T) -> bool,
) -> T {
    let give_up = Instant::now() + deadline;
    loop {
        let asks = Instant::now();
        let seen = observe();
        if accept(&seen) {
            return seen;
        }
        if Instant::now() >= give_up {
            panic!("waited {deadline:?} in vain until {what}; last seen: {seen:?}");
        }
        pause(asks.elapsed());
    }
}

/// The same without a panic, for clean-up code. The condition is tried at least once.
pub(crate) fn holds_within(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let give_up = Instant::now() + deadline;
    loop {
        let asks = Instant::now();
        if condition() {
            return true;
        }
        if Instant::now() >= give_up {
            return false;
        }
        pause(asks.elapsed());
    }
}
