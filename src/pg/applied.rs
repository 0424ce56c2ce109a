//! When the publisher committed what was applied last: the server knows it while an apply worker commits
//! (`replorigin_session_origin_timestamp`) and shows it nowhere. Native and pglogical workers alike set it. Only where the
//! library is preloaded.

use super::clock::epoch_of;
use super::{replication_process, shared};
use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_shmem_init, pg_sys};
use std::ffi::c_void;

/// Replication origins of which the last commit is remembered.
const ROOM: usize = 256;

#[derive(Clone, Copy, Default)]
struct Commit {
    /// 0: none
    origin: pg_sys::RepOriginId,
    /// The process that applied it.
    pid: i32,
    /// Where it ends on the publisher.
    lsn: pg_sys::XLogRecPtr,
    /// By the publisher's clock.
    committed_at: pg_sys::TimestampTz,
}

#[derive(Clone, Copy)]
struct Commits {
    last: [Commit; ROOM],
    /// The one to be forgotten next when there is no room.
    oldest: usize,
}

impl Default for Commits {
    fn default() -> Self {
        Self {
            last: [Commit::default(); ROOM],
            oldest: 0,
        }
    }
}

// SAFETY: plain data without pointers.
unsafe impl PGRXSharedMemory for Commits {}

// SAFETY: no other lock tranche has this name.
static COMMITS: PgLwLock<Commits> = unsafe { PgLwLock::new(c"replwarden_applied") };

/// Asks for shared memory and to hear of each commit; only while the library is being preloaded.
pub(super) fn init() {
    pg_shmem_init!(COMMITS);
    // SAFETY: a function of this library, which is never unloaded; every process inherits the registration.
    unsafe { pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    use pg_sys::XactEvent::{XACT_EVENT_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PREPARE};
    if event == XACT_EVENT_PRE_COMMIT {
        return replication_process::before_commit();
    }
    // A worker's first transaction is the one in which it reads its subscription.
    replication_process::register();
    // SAFETY: reads variables of this process, which are set in apply workers (access/transam/xact.c reads them likewise).
    let commit = unsafe {
        Commit {
            origin: pg_sys::replorigin_session_origin,
            pid: pg_sys::MyProcPid,
            lsn: pg_sys::replorigin_session_origin_lsn,
            committed_at: pg_sys::replorigin_session_origin_timestamp,
        }
    };
    let is_applied = commit.origin != pg_sys::InvalidRepOriginId as pg_sys::RepOriginId
        && commit.origin != pg_sys::RepOriginId::MAX
        && commit.committed_at != 0;
    if is_applied && matches!(event, XACT_EVENT_COMMIT | XACT_EVENT_PREPARE) {
        remember(commit);
    }
}

fn remember(commit: Commit) {
    let mut commits = COMMITS.exclusive();
    let origin = commit.origin;
    let known = commits.last.iter().position(|one| one.origin == origin);
    let place = known.or_else(|| commits.last.iter().position(|one| one.origin == 0));
    let place = place.unwrap_or_else(|| {
        let oldest = commits.oldest;
        commits.oldest = (oldest + 1) % ROOM;
        oldest
    });
    commits.last[place] = commit;
}

/// When the publisher committed, by its clock, what was applied last of an origin (`pg_replication_origin.roident`), in
/// seconds since 1970; `None` since the server has started. The number of an origin that was dropped is given to another:
/// what is remembered has to be of the same position, `lsn`, or the worker, `pid`, has gone beyond it meanwhile.
pub(crate) fn committed_at(origin: u32, lsn: i64, pid: Option<i32>) -> Option<f64> {
    if !shared::is_preloaded() || origin == 0 {
        return None;
    }
    let commits = COMMITS.share();
    let mut last = commits.last.iter();
    let commit = last.find(|one| u32::from(one.origin) == origin)?;
    let lsn = u64::try_from(lsn).ok()?;
    let is_of_this_origin = commit.lsn == lsn || Some(commit.pid) == pid && commit.lsn > lsn;
    is_of_this_origin.then(|| epoch_of(commit.committed_at))
}
