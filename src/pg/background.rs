//! Background workers: starting them, and living as one.

use super::libpq::Interest;
use super::{databases, lock, raw, version};
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::time::{Duration, Instant};

/// What a worker is and how the postmaster starts it.
pub(crate) struct Description {
    /// Shown by `ps` and in messages of the postmaster.
    pub(crate) name: String,
    /// `pg_stat_activity.backend_type`
    pub(crate) kind: &'static str,
    /// The entry point: an exported function of this library.
    pub(crate) function: &'static CStr,
    pub(crate) argument: Argument,
    /// After how long the postmaster starts it again when it has died or the server has crashed; it forgets a worker that
    /// ends by itself.
    pub(crate) restart: Option<Duration>,
}

/// What the worker is told.
#[derive(Clone, Copy)]
pub(crate) struct Argument {
    pub(crate) database: pg_sys::Oid,
    /// That of the database.
    pub(crate) tablespace: pg_sys::Oid,
    /// Whatever the caller means by it.
    pub(crate) flag: bool,
}

/// A worker that this process has had started.
pub(crate) struct Handle(*mut pg_sys::BackgroundWorkerHandle);

impl Description {
    fn to_server(&self) -> pg_sys::BackgroundWorker {
        let flags = pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION;
        let mut worker = pg_sys::BackgroundWorker {
            bgw_flags: flags as c_int,
            bgw_start_time: pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished,
            bgw_restart_time: self.restart.map_or(pg_sys::BGW_NEVER_RESTART, |time| {
                c_int::try_from(time.as_secs()).unwrap_or(c_int::MAX)
            }),
            bgw_main_arg: pg_sys::Datum::from(
                u64::from(self.argument.database.to_u32())
                    | (u64::from(self.argument.tablespace.to_u32()) << u32::BITS),
            ),
            ..Default::default()
        };
        worker.bgw_extra[0] = c_char::from(self.argument.flag);
        copy(&mut worker.bgw_name, self.name.as_bytes());
        copy(&mut worker.bgw_type, self.kind.as_bytes());
        copy(&mut worker.bgw_library_name, b"$libdir/replwarden");
        copy(&mut worker.bgw_function_name, self.function.to_bytes());
        worker
    }

    /// Has the postmaster start the worker with the server; only while the library is being preloaded.
    pub(crate) fn register_static(&self) {
        let mut worker = self.to_server();
        // SAFETY: a complete description; the postmaster copies it.
        unsafe { pg_sys::RegisterBackgroundWorker(&raw mut worker) };
    }

    /// Has the postmaster start the worker now, and tell this process (by its latch) when it starts and ends. `None` when
    /// no slot of `max_worker_processes` is free.
    pub(crate) fn start(&self) -> Option<Handle> {
        let mut worker = self.to_server();
        // SAFETY: a complete description, copied into shared memory; the handle is palloc'ed where it outlives
        // transactions.
        unsafe {
            worker.bgw_notify_pid = pg_sys::MyProcPid;
            let caller = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = pg_sys::TopMemoryContext;
            let mut handle = std::ptr::null_mut();
            let started = pg_sys::RegisterDynamicBackgroundWorker(&raw mut worker, &raw mut handle);
            pg_sys::CurrentMemoryContext = caller;
            started.then(|| Handle(handle))
        }
    }
}

impl Handle {
    /// It has not ended; perhaps it has not begun yet either.
    pub(crate) fn is_alive(&self) -> bool {
        let mut pid = 0;
        // SAFETY: a handle of RegisterDynamicBackgroundWorker.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &raw mut pid) };
        status == pg_sys::BgwHandleStatus::BGWH_STARTED
            || status == pg_sys::BgwHandleStatus::BGWH_NOT_YET_STARTED
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: palloc'ed by RegisterDynamicBackgroundWorker, and not used any more; the worker lives on.
        unsafe { pg_sys::pfree(self.0.cast()) };
    }
}

fn copy(field: &mut [c_char], text: &[u8]) {
    let room = field.len() - 1;
    for (place, byte) in field.iter_mut().zip(text.iter().take(room)) {
        *place = *byte as c_char;
    }
}

impl Argument {
    /// What this worker was told.
    pub(crate) fn received(datum: pg_sys::Datum) -> Self {
        let value = datum.value() as u64;
        Self {
            database: pg_sys::Oid::from((value & u64::from(u32::MAX)) as u32),
            tablespace: pg_sys::Oid::from((value >> u32::BITS) as u32),
            // SAFETY: set in a background worker before its entry point is called.
            flag: unsafe { (*pg_sys::MyBgworkerEntry).bgw_extra[0] != 0 },
        }
    }

    /// Whether the directory of the database exists: asked before connecting, for connecting to a database that has been
    /// dropped is an error that ends the process, which the postmaster then may start again for ever.
    pub(crate) fn database_exists(self) -> bool {
        // SAFETY: gives a palloc'ed path, relative to the data directory, which every server process is in.
        let path =
            unsafe { CStr::from_ptr(pg_sys::GetDatabasePath(self.database, self.tablespace)) };
        std::path::Path::new(&*path.to_string_lossy()).exists()
    }
}

/// Settings of the database or of the role that must not reach a worker, as for an autovacuum worker
/// (`AutoVacWorkerMain` of `postmaster/autovacuum.c`). Commits wait for the own disk, not for a standby.
const SETTINGS: &[(&CStr, &CStr)] = &[
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_isolation", c"read committed"),
    (c"statement_timeout", c"0"),
    (c"lock_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"synchronous_commit", c"local"),
    (c"search_path", c"pg_catalog, pg_temp"),
];

/// Makes this process a worker that is connected to a database, as the bootstrap superuser; `None`: to none, so that
/// only the shared catalogs can be read. Does not return if there is no such database.
pub(crate) fn begin(database: Option<pg_sys::Oid>, application_name: &str) {
    version::handle_signal(pg_sys::SIGHUP as c_int, raw::SignalHandlerForConfigReload);
    version::handle_signal(pg_sys::SIGTERM as c_int, raw::die);
    // SAFETY: in this order, once, at the start of a worker (postmaster/bgworker.c).
    unsafe {
        pg_sys::BackgroundWorkerUnblockSignals();
        match database {
            Some(oid) => {
                pg_sys::BackgroundWorkerInitializeConnectionByOid(oid, pg_sys::InvalidOid, 0);
            }
            None => {
                pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
            }
        }
    }
    for (name, value) in SETTINGS.iter().chain(version::LATER_SETTINGS) {
        set(name, value);
    }
    if let Ok(name) = CString::new(application_name) {
        set(c"application_name", &name);
    }
}

/// Ends this process; the postmaster starts it again after its restart time. (A worker that returns is never started again.)
pub(crate) fn end_and_be_restarted() {
    // SAFETY: outside of a transaction; what has to be released is released by the server's own callbacks.
    unsafe { pg_sys::proc_exit(1) }
}

fn set(name: &CStr, value: &CStr) {
    // SAFETY: settings of the server's own, with values that it takes.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// Sleeps until the time is over or something happens (this process's latch is set), takes up changed settings, and ends
/// the process where it is asked to end. Outside of a transaction.
///
/// True if something has happened.
pub(crate) fn wait(time: Duration) -> bool {
    let woken = wait_for_latch(time);
    heed_signals();
    woken
}

fn wait_for_latch(time: Duration) -> bool {
    let milliseconds = time.as_millis().try_into().unwrap_or(i64::MAX);
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: the latch of this process.
    unsafe {
        let woken_by = pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as c_int,
            milliseconds,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        woken_by & pg_sys::WL_LATCH_SET as c_int != 0
    }
}

/// What ended a wait for sockets.
pub(crate) struct Woken {
    /// This process's latch was set.
    pub(crate) by_latch: bool,
    /// The sockets that are ready, by their places.
    pub(crate) sockets: Vec<usize>,
}

/// As `wait`, and for sockets of libpq, too.
pub(crate) fn wait_for_sockets(time: Duration, sockets: &[(i32, Interest)]) -> Woken {
    let woken = wait_for_latch_and_sockets(time, sockets);
    heed_signals();
    woken
}

/// Likewise in the middle of a statement of a session, which may be cancelled.
pub(crate) fn wait_for_sockets_in_session(time: Duration, sockets: &[(i32, Interest)]) -> Woken {
    pgrx::check_for_interrupts!();
    let woken = wait_for_latch_and_sockets(time, sockets);
    pgrx::check_for_interrupts!();
    woken
}

fn wait_for_latch_and_sockets(time: Duration, sockets: &[(i32, Interest)]) -> Woken {
    if sockets.is_empty() {
        let by_latch = wait_for_latch(time);
        return Woken {
            by_latch,
            sockets: Vec::new(),
        };
    }
    let milliseconds = time.as_millis().try_into().unwrap_or(c_long::MAX);
    let mut woken = Woken {
        by_latch: false,
        sockets: Vec::new(),
    };
    // SAFETY: a set with room for the latch, the postmaster's death and each socket, all of which are open; freed before
    // anything can raise. The event's user data is the socket's place, counted from 1.
    unsafe {
        let room = sockets.len() + 2;
        let set = version::create_wait_event_set(c_int::try_from(room).unwrap_or(c_int::MAX));
        let (no_latch, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
        let (latch, no_socket) = (pg_sys::MyLatch, pg_sys::PGINVALID_SOCKET);
        pg_sys::AddWaitEventToSet(set, pg_sys::WL_LATCH_SET, no_socket, latch, nothing);
        pg_sys::AddWaitEventToSet(
            set,
            pg_sys::WL_EXIT_ON_PM_DEATH,
            no_socket,
            no_latch,
            nothing,
        );
        for (place, (socket, interest)) in sockets.iter().enumerate() {
            let event = match interest {
                Interest::Readable => pg_sys::WL_SOCKET_READABLE,
                Interest::Writable => pg_sys::WL_SOCKET_WRITEABLE,
            };
            let place = std::ptr::without_provenance_mut(place + 1);
            pg_sys::AddWaitEventToSet(set, event, *socket, no_latch, place);
        }
        let mut events = vec![pg_sys::WaitEvent::default(); room];
        let number = pg_sys::WaitEventSetWait(
            set,
            milliseconds,
            events.as_mut_ptr(),
            c_int::try_from(room).unwrap_or(c_int::MAX),
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::FreeWaitEventSet(set);
        for event in events.iter().take(usize::try_from(number).unwrap_or(0)) {
            if event.events & pg_sys::WL_LATCH_SET != 0 {
                woken.by_latch = true;
            } else if let Some(place) = event.user_data.addr().checked_sub(1) {
                woken.sockets.push(place);
            }
        }
        if woken.by_latch {
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
    }
    woken
}

/// As `wait`, but for the whole time, which a change of settings may change, unless somebody wants the database for
/// himself.
pub(crate) fn wait_out(time: impl Fn() -> Duration) {
    let begun = Instant::now();
    while let Some(left) = time().checked_sub(begun.elapsed()) {
        wait(left.min(DATABASE_POLL));
        if !lock::database_is_open(databases::current()) {
            return;
        }
    }
}

/// How often a worker that is connected to a database looks whether it stands in the way of a DROP DATABASE, which waits
/// for 5 s before it gives up (`CountOtherDBBackends` of `storage/ipc/procarray.c`).
pub(crate) const DATABASE_POLL: Duration = Duration::from_millis(250);

/// Takes up changed settings, and ends the process where it is asked to end.
pub(crate) fn heed_signals() {
    pgrx::check_for_interrupts!();
    // SAFETY: as the main loops of the server's own processes do it.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// The setting, which holds as long as the server runs.
pub(crate) fn max_worker_processes() -> u16 {
    // SAFETY: reads a setting of this process.
    u16::try_from(unsafe { pg_sys::max_worker_processes }).unwrap_or(u16::MAX)
}

/// Shows in `pg_stat_activity` what this worker is doing.
pub(crate) fn report_activity(busy: bool, text: &str) {
    let state = if busy {
        pg_sys::BackendState::STATE_RUNNING
    } else {
        pg_sys::BackendState::STATE_IDLE
    };
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: the text is copied.
    unsafe { pg_sys::pgstat_report_activity(state, text.as_ptr()) };
}
