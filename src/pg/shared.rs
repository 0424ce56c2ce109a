//! Shared memory: what sessions and workers tell the launcher. There is none unless the library is preloaded.

use super::{applied, board, error_ring, log_hook, replication_process};
use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_shmem_init, pg_sys};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the launcher hears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// The extension was created in this database just now.
    Created(pg_sys::Oid),
    /// A worker has found the extension in this database and gone again, as it was asked.
    Present(pg_sys::Oid),
    /// A worker has found no extension in this database, or no longer.
    Absent(pg_sys::Oid),
}

const ROOM: usize = 64;

#[derive(Clone, Copy)]
struct Mailbox {
    messages: [Option<Message>; ROOM],
    /// More messages came than there is room for.
    overflowed: bool,
    /// The latch of the launcher, in shared memory like every process's; 0: none runs.
    launcher: usize,
    /// A crash after which something was tried, and how often.
    tried: ((i32, u64), u32),
    /// Nothing more has to be tried.
    is_settled: bool,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            messages: [None; ROOM],
            overflowed: false,
            launcher: 0,
            tried: ((0, 0), 0),
            is_settled: false,
        }
    }
}

// SAFETY: plain data without pointers, but for the address of a latch in shared memory, which every process has at the
// same place.
unsafe impl PGRXSharedMemory for Mailbox {}

// SAFETY: no other lock tranche has this name.
static MAILBOX: PgLwLock<Mailbox> = unsafe { PgLwLock::new(c"replwarden_launcher") };

/// Inherited by every process of the server.
static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Asks for shared memory; only while the library is being preloaded.
pub(crate) fn init() {
    pg_shmem_init!(MAILBOX);
    board::init();
    applied::init();
    replication_process::init();
    error_ring::init();
    log_hook::init();
    PRELOADED.store(true, Ordering::Relaxed);
}

/// The library is in `shared_preload_libraries`.
pub(crate) fn is_preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// The library is being loaded by the postmaster, so that workers and shared memory can be asked for, and the server is
/// not being upgraded by pg_upgrade.
pub(crate) fn is_preloading() -> bool {
    // SAFETY: reads variables of this process.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade }
}

/// Leaves a message for the launcher and wakes it.
pub(crate) fn post(message: Message) {
    if !is_preloaded() {
        return;
    }
    let mut mailbox = MAILBOX.exclusive();
    if !mailbox.messages.contains(&Some(message)) {
        match mailbox.messages.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(message),
            None => mailbox.overflowed = true,
        }
    }
    let latch = mailbox.launcher;
    drop(mailbox);
    if latch != 0 {
        // SAFETY: a latch in shared memory stays there after its owner is gone; setting it then wakes nobody.
        unsafe { pg_sys::SetLatch(latch as *mut pg_sys::Latch) };
    }
}

/// The launcher: from now on messages wake this process.
pub(crate) fn receive_messages() {
    // SAFETY: reads a variable of this process.
    let latch = unsafe { pg_sys::MyLatch } as usize;
    MAILBOX.exclusive().launcher = latch;
}

/// Messages in no order, and whether others were lost.
pub(crate) fn take_messages() -> (Vec<Message>, bool) {
    let mut mailbox = MAILBOX.exclusive();
    let taken = *mailbox;
    mailbox.messages = [None; ROOM];
    mailbox.overflowed = false;
    drop(mailbox);
    (
        taken.messages.into_iter().flatten().collect(),
        taken.overflowed,
    )
}

/// Counts the attempts to do something about a crash; it is told by the process that died and by when it did. They are
/// forgotten when the server restarts, which it does after each crash.
pub(crate) fn attempts_after_crash(pid: i32, at: u64) -> u32 {
    let mut mailbox = MAILBOX.exclusive();
    let (crash, attempts) = mailbox.tried;
    mailbox.tried = match crash == (pid, at) {
        true => (crash, attempts.saturating_add(1)),
        false => ((pid, at), 1),
    };
    mailbox.tried.1
}

/// What had to be done about the last crash is done, or cannot be done.
pub(crate) fn settle_crash() {
    MAILBOX.exclusive().is_settled = true;
}

pub(crate) fn is_crash_settled() -> bool {
    MAILBOX.share().is_settled
}
