//! Crash loops of the server's own logical replication, which only a signal can bring about: settings, locks, languages.

use std::process::Command;
use std::time::{Duration, Instant};

use replwarden_tests::{DEFAULT_DEADLINE, Pair, PairBuilder, Provider, wait_for_value, wait_until};

use crate::breaker::{
    THRESHOLD, assert_stays_up, crash, crashes, events, is_enabled, wait_at_work, wait_disabled,
    wait_events, wait_watched,
};
use crate::control::assert_streams;
use crate::status::{self, Status};

/// A pair whose crashes are never too far apart, however slow the machine is.
pub(crate) fn builder() -> PairBuilder {
    status::builder(Provider::Native).subscriber_setting("replwarden.crash_loop_window", "1h")
}

/// Ends the apply worker with SIGSEGV, once it streams: `id` is that of a row that it applies before.
#[track_caller]
pub(crate) fn crash_apply_worker(pair: &Pair, id: u32) {
    assert_streams(pair, id);
    crash(pair.subscriber(), pair.apply_worker_pid());
}

/// Crashes it so often, beginning with the row 11.
#[track_caller]
fn crash_apply_workers(pair: &Pair, times: usize) {
    for id in (11..).take(times) {
        crash_apply_worker(pair, id);
    }
}

#[track_caller]
fn assert_broken(pair: &Pair, times: usize) {
    wait_disabled(pair);
    assert_stays_up(pair, times);
    let broken = wait_events(pair, "crash_loop_broken", 1);
    assert_eq!(broken.len(), 1, "{broken:?}");
    let event = &broken[0];
    assert!(
        event.is("subscription", "sub")
            && event.is("provider", "native")
            && event.is("signal", "11")
            && event.is("crashes", &times.to_string()),
        "{event:?}"
    );
    assert_eq!(wait_events(pair, "worker_crashed", times).len(), times);
    Status::of(pair).wait_cause("disabled", Some("crash_loop"));
    // Nobody knows what to mend, but it can be pasted.
    let remedy = event.text("remedy");
    assert!(!remedy.contains("repl_adopt_generated"), "{remedy}");
    pair.on_subscriber(remedy);
    assert_streams(pair, 100);
}

#[track_caller]
fn assert_goes_on(pair: &Pair) {
    assert!(is_enabled(pair));
    assert_streams(pair, 100);
    assert!(events(pair, "crash_loop_broken").is_empty());
}

#[test]
fn loop_is_broken_at_the_third_crash() {
    let pair = status::streaming(builder().start());
    crash_apply_workers(&pair, THRESHOLD - 1);
    wait_watched(&pair);
    assert!(is_enabled(&pair));
    crash_apply_worker(&pair, 21);
    assert_broken(&pair, THRESHOLD);
}

#[test]
fn loop_is_broken_at_the_second_crash_if_that_is_wanted() {
    let pair = status::streaming(
        builder()
            .subscriber_setting("replwarden.crash_loop_threshold", "2")
            .start(),
    );
    crash_apply_workers(&pair, 2);
    assert_broken(&pair, 2);
}

/// The crashes before it was mended are history.
#[test]
fn nothing_reminds_of_a_loop_that_is_mended() {
    let pair = status::streaming(builder().start());
    crash_apply_workers(&pair, THRESHOLD);
    assert_broken(&pair, THRESHOLD);
    let status = Status::of(&pair);
    status.wait_state("streaming");
    for _ in 0..5 {
        status.wait_looked();
    }
    let row = status.subscription();
    assert!(
        row.is("state", "streaming") && row.is_null("remedy"),
        "{row:?}"
    );
    // Before it was broken it may have been seen.
    let begun = status.rows(
        "select e.* from repl_events e
          where e.event = 'crash_loop'
            and e.occurred_at > (select occurred_at from repl_events where event = 'crash_loop_broken')",
    );
    assert!(begun.is_empty(), "{begun:?}");
    let report = status.report().join("\n");
    assert!(!report.contains("held back"), "{report}");
}

#[test]
fn threshold_is_taken_from_a_reload() {
    let pair = status::streaming(builder().start());
    crash_apply_worker(&pair, 11);
    pair.subscriber()
        .set("replwarden.crash_loop_threshold", "2");
    crash_apply_worker(&pair, 12);
    assert_broken(&pair, 2);
}

#[test]
fn crashes_far_apart_are_no_loop() {
    const WINDOW: Duration = Duration::from_millis(100);
    let pair = status::streaming(
        builder()
            .subscriber_setting("replwarden.crash_loop_window", "100ms")
            .start(),
    );
    for id in (11..).take(THRESHOLD + 2) {
        crash_apply_worker(&pair, id);
        let crashed = Instant::now();
        wait_until("the window is over", DEFAULT_DEADLINE, || {
            crashed.elapsed() > WINDOW
        });
    }
    wait_watched(&pair);
    assert_goes_on(&pair);
    assert_eq!(crashes(pair.subscriber()), THRESHOLD + 2);
    let told = wait_events(&pair, "worker_crashed", THRESHOLD + 2);
    assert_eq!(told.len(), THRESHOLD + 2, "{told:?}");
}

#[test]
fn loop_is_shown_where_it_is_not_to_be_broken() {
    let pair = status::streaming(
        builder()
            .subscriber_setting("replwarden.break_crash_loops", "off")
            .start(),
    );
    crash_apply_workers(&pair, THRESHOLD + 1);
    wait_watched(&pair);
    let row = Status::of(&pair).wait_cause("crash_loop", Some("crash_loop"));
    assert!(row.is("enabled", "t"), "{row:?}");
    assert!(
        row.text("remedy").contains("repl_disable('sub')"),
        "{row:?}"
    );
    assert_goes_on(&pair);
    let begun = wait_events(&pair, "crash_loop", 1);
    assert!(
        begun[0].is("severity", "critical") && begun[0].is("subscription", "sub"),
        "{begun:?}"
    );
}

/// Switching it on later is no reason to hold up workers that nobody is going to disable.
#[test]
fn breaker_that_is_switched_on_later_holds_nobody_back() {
    let pair = status::streaming(
        builder()
            .subscriber_setting("replwarden.break_crash_loops", "off")
            .start(),
    );
    crash_apply_workers(&pair, THRESHOLD);
    wait_watched(&pair);
    assert_streams(&pair, 51);
    pair.subscriber().set("replwarden.break_crash_loops", "on");
    pair.on_subscriber("select repl_restart_worker('sub')");
    assert_goes_on(&pair);
}

/// What it does has to be told in events, for which there is no table.
#[test]
fn database_without_the_extension_is_left_alone() {
    let pair = builder().start();
    pair.on_both("create table item (id int primary key, note text)");
    pair.publish(&replwarden_tests::Publication::of("item"));
    pair.subscribe();
    pair.wait_copied();
    // Replication commits asynchronously, and a crash would undo the end of the copy.
    pair.on_subscriber("checkpoint");
    crash_apply_workers(&pair, THRESHOLD);
    wait_at_work(&pair);
    let complaint = wait_for_value(
        "the server log says that the loop was not broken",
        DEFAULT_DEADLINE,
        || {
            let log = pair.subscriber().log();
            let line = log
                .lines()
                .find(|line| line.contains("WARNING:") && line.contains("crash loop"));
            line.map(str::to_owned)
        },
        Option::is_some,
    );
    assert!(
        complaint
            .as_deref()
            .is_some_and(|line| line.contains("replwarden: could not break")),
        "{complaint:?}"
    );
    assert!(is_enabled(&pair));
    assert_streams(&pair, 100);
    assert_eq!(crashes(pair.subscriber()), THRESHOLD);
}

/// Crashes the subscription into a loop while it is locked. A lock outlives the crash only if it is that of a prepared
/// transaction.
fn locked_in_a_loop() -> Pair {
    let pair = status::streaming(
        builder()
            .subscriber_setting("max_prepared_transactions", "5")
            .start(),
    );
    crash_apply_workers(&pair, THRESHOLD - 1);
    // Last, for the worker starts without reading what is locked.
    assert_streams(&pair, 31);
    pair.on_subscriber("begin; select from pg_subscription for update; prepare transaction 'lock'");
    crash(pair.subscriber(), pair.apply_worker_pid());
    pair
}

/// How often the server log says that the subscription was locked.
fn complaints(pair: &Pair) -> usize {
    let log = pair.subscriber().log();
    log.lines()
        .filter(|line| line.contains("could not break a crash loop") && line.contains("55P03"))
        .count()
}

#[test]
fn locked_subscription_is_tried_again() {
    let pair = locked_in_a_loop();
    wait_until("the server log tells of the lock", DEFAULT_DEADLINE, || {
        complaints(&pair) > 0
    });
    pair.on_subscriber("rollback prepared 'lock'");
    assert_broken(&pair, THRESHOLD);
    let held_back = pair.subscriber().log().contains("the worker is held back");
    assert!(held_back, "nobody was held back meanwhile");
}

#[test]
fn subscription_that_stays_locked_is_not_held_back_for_ever() {
    let pair = locked_in_a_loop();
    wait_watched(&pair);
    assert_goes_on(&pair);
    assert_eq!(complaints(&pair), 3);
    pair.on_subscriber("rollback prepared 'lock'");
    assert_eq!(crashes(pair.subscriber()), THRESHOLD);
}

/// The postmaster tells of deaths in the language of the server.
#[test]
fn messages_in_german_are_understood() {
    let locales = Command::new("locale").arg("-a").output();
    let locales = locales.expect("locale runs").stdout;
    assert!(
        String::from_utf8_lossy(&locales)
            .lines()
            .any(|name| name.eq_ignore_ascii_case("de_DE.utf8")),
        "the locale de_DE.UTF-8 is missing: make setup"
    );
    let pair = status::streaming(
        builder()
            .subscriber_setting("lc_messages", "de_DE.UTF-8")
            .start(),
    );
    for id in (11..).take(THRESHOLD) {
        assert_streams(&pair, id);
        let before = in_german(&pair);
        crate::breaker::send(pair.subscriber(), "SEGV", pair.apply_worker_pid());
        wait_until("the server has restarted itself", DEFAULT_DEADLINE, || {
            in_german(&pair).1 > before.1 && pair.subscriber().try_connect("postgres").is_ok()
        });
    }
    wait_disabled(&pair);
    wait_watched(&pair);
    assert_eq!(in_german(&pair).0, THRESHOLD);
    assert_eq!(crashes(pair.subscriber()), 0, "the log is not in German");
    let broken = wait_events(&pair, "crash_loop_broken", 1);
    assert!(
        broken[0].is("crashes", "3") && broken[0].is("signal", "11"),
        "{broken:?}"
    );
}

/// Deaths, and starts of the server, as the log tells of them.
fn in_german(pair: &Pair) -> (usize, usize) {
    let log = pair.subscriber().log();
    (
        log.matches("wurde von Signal 11 beendet").count(),
        log.matches("Datenbanksystem ist bereit, um Verbindungen anzunehmen")
            .count(),
    )
}
