//! The settings. All of them reload with SIGHUP, but for `error_slots`.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::time::Duration;

static BACKFILL_BATCH_TIME: GucSetting<i32> = GucSetting::<i32>::new(200);
static BACKFILL_DELAY: GucSetting<i32> = GucSetting::<i32>::new(0);
static MAX_BACKFILL_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);

static WATCH_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static STALL_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(60_000);
static PROBE_PUBLISHER: GucSetting<bool> = GucSetting::<bool>::new(true);
static PROBE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5_000);
/// In seconds.
static EVENT_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(30 * 86_400);

static ERROR_SLOTS: GucSetting<i32> = GucSetting::<i32>::new(256);
static CRASH_LOOP_THRESHOLD: GucSetting<i32> = GucSetting::<i32>::new(3);
static CRASH_LOOP_WINDOW: GucSetting<i32> = GucSetting::<i32>::new(60_000);
static BREAK_CRASH_LOOPS: GucSetting<bool> = GucSetting::<bool>::new(true);
static RESTART_STALLED_WORKERS: GucSetting<bool> = GucSetting::<bool>::new(false);

pub(crate) fn init() {
    GucRegistry::define_int_guc(
        c"replwarden.backfill_batch_time",
        c"Sets how long a transaction of a backfill takes.",
        c"Counted from the first row. Replication, when it wants to change a row that the backfill has just changed, waits no longer than that.",
        &BACKFILL_BATCH_TIME,
        1,
        1000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"replwarden.backfill_delay",
        c"Sets how long a backfill worker pauses after each transaction.",
        c"Above 0 it leaves more of the machine to others.",
        &BACKFILL_DELAY,
        0,
        60_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"replwarden.max_backfill_workers",
        c"Sets how many backfill workers may run at once in a database.",
        c"They are taken from max_worker_processes. 0 pauses all backfills.",
        &MAX_BACKFILL_WORKERS,
        0,
        64,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"replwarden.watch_interval",
        c"Sets how often the worker of a database looks at its subscriptions.",
        c"It also asks their publishers then.",
        &WATCH_INTERVAL,
        10,
        3_600_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"replwarden.stall_timeout",
        c"Sets how long a subscription may make no progress before it counts as stalled.",
        c"A worker that waits for a lock so long is stalled.",
        &STALL_TIMEOUT,
        100,
        86_400_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_bool_guc(
        c"replwarden.probe_publisher",
        c"Asks publishers for their position, slots and tables.",
        c"With the connection string of the subscription. Without it, lag and what the publisher retains are unknown.",
        &PROBE_PUBLISHER,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"replwarden.probe_timeout",
        c"Sets how long a publisher may take to accept a connection, and to answer.",
        c"One that takes longer is asked again later.",
        &PROBE_TIMEOUT,
        100,
        600_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"replwarden.error_slots",
        c"Sets how many different errors of replicating processes are kept in shared memory.",
        c"The worker of the database writes them to its table within an interval; more than that at once are lost. Each takes 6 kB.",
        &ERROR_SLOTS,
        16,
        8192,
        // A session that loads the library may not define such a setting, and has no use for it.
        if crate::pg::shared::is_preloading() {
            GucContext::Postmaster
        } else {
            GucContext::Sighup
        },
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"replwarden.crash_loop_threshold",
        c"Sets how many crashes of a subscription's workers within crash_loop_window are a loop.",
        c"The subscription is then disabled, if break_crash_loops is on.",
        &CRASH_LOOP_THRESHOLD,
        2,
        50,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"replwarden.crash_loop_window",
        c"Sets the time within which crashes of a subscription's workers are counted.",
        c"Crashes further apart are no loop.",
        &CRASH_LOOP_WINDOW,
        100,
        86_400_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_bool_guc(
        c"replwarden.break_crash_loops",
        c"Disables a subscription whose workers crash the server again and again.",
        c"Otherwise the server restarts after each crash until somebody disables it.",
        &BREAK_CRASH_LOOPS,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_bool_guc(
        c"replwarden.restart_stalled_workers",
        c"Ends an apply worker that hangs where a new one can help.",
        c"The server starts another. Never one that applies a large transaction or waits for a lock.",
        &RESTART_STALLED_WORKERS,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"replwarden.event_retention",
        c"Sets for how long events are kept.",
        c"Older ones are deleted from repl_events each hour, but for those that still go on.",
        &EVENT_RETENTION,
        60,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    crate::pg::version::reserve_setting_prefix(c"replwarden");
}

pub(crate) fn backfill_batch_time() -> Duration {
    milliseconds(&BACKFILL_BATCH_TIME)
}

pub(crate) fn backfill_delay() -> Duration {
    milliseconds(&BACKFILL_DELAY)
}

pub(crate) fn max_backfill_workers() -> u16 {
    u16::try_from(MAX_BACKFILL_WORKERS.get()).unwrap_or(0)
}

pub(crate) fn watch_interval() -> Duration {
    milliseconds(&WATCH_INTERVAL)
}

pub(crate) fn stall_timeout() -> Duration {
    milliseconds(&STALL_TIMEOUT)
}

pub(crate) fn probe_publisher() -> bool {
    PROBE_PUBLISHER.get()
}

pub(crate) fn probe_timeout() -> Duration {
    milliseconds(&PROBE_TIMEOUT)
}

pub(crate) fn error_slots() -> usize {
    usize::try_from(ERROR_SLOTS.get()).unwrap_or(0)
}

pub(crate) fn crash_loop_threshold() -> usize {
    usize::try_from(CRASH_LOOP_THRESHOLD.get()).unwrap_or(usize::MAX)
}

pub(crate) fn crash_loop_window() -> Duration {
    milliseconds(&CRASH_LOOP_WINDOW)
}

pub(crate) fn break_crash_loops() -> bool {
    BREAK_CRASH_LOOPS.get()
}

pub(crate) fn restart_stalled_workers() -> bool {
    RESTART_STALLED_WORKERS.get()
}

pub(crate) fn event_retention() -> Duration {
    Duration::from_secs(u64::try_from(EVENT_RETENTION.get()).unwrap_or(0))
}

fn milliseconds(setting: &GucSetting<i32>) -> Duration {
    Duration::from_millis(u64::try_from(setting.get()).unwrap_or(0))
}
