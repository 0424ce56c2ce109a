//! The launcher's other task, see `watch::breaker`.

use crate::pg::transaction;
use crate::pg::{session, shared};
use crate::watch::breaker::{self, Guilty, Words};
use std::ffi::CStr;

/// It must not wait long: workers of the subscription are held back meanwhile.
const LOCK_TIMEOUT: (&CStr, &CStr) = (c"lock_timeout", c"2s");

/// That it is disabled matters most.
pub(super) fn run(guilty: &Guilty) {
    let mut failures = Vec::new();
    for words in [Words::All, Words::Few, Words::None] {
        let disable =
            || session::with_settings(&[LOCK_TIMEOUT], || breaker::disable(guilty, words));
        match transaction::run(disable) {
            Ok(event) => {
                shared::settle_crash();
                if let Some(failure) = failures.first() {
                    super::log("tell of a crash loop that was broken", failure);
                }
                if let Some(event) = event {
                    event.log();
                }
                return;
            }
            Err(failure) if failure.is_not_installed() => {
                // What is done here has to be told in events, for which there is no table.
                shared::settle_crash();
                return super::log(BREAK, &failure);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if let Some(failure) = failures.last() {
        super::log(BREAK, failure);
    }
}

const BREAK: &str = "break a crash loop of a subscription";
