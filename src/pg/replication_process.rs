//! Which processes replicate: what the postmaster has to know when one of them dies, and calls it by its type only. Each
//! writes itself down in shared memory, where the postmaster can read without a lock.

use super::shared_area::{SharedArea, bytes, until_end};
use pgrx::{pg_guard, pg_shmem_init, pg_sys};
use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// Room for the names of workers, which the server cuts at that.
pub(crate) const NAME_ROOM: usize = pg_sys::BGW_MAXLEN as usize;

/// More than there will be replicating processes at a time.
const ROOM: usize = 1024;
/// Places that are tried for a process.
const TRIES: usize = 16;

struct Entry {
    /// 0: free, or being written.
    pid: AtomicI32,
    database: AtomicU32,
    length: AtomicU32,
    /// Written by its process before `pid`, and not again.
    name: Cell<[u8; NAME_ROOM]>,
}

static REGISTER: SharedArea =
    SharedArea::new(c"replwarden_processes", || ROOM * size_of::<Entry>());

thread_local! {
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
    /// To be called before the first commit; set in the postmaster.
    static CHECK: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// A process that replicates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplicationProcess {
    pub(crate) database: u32,
    name: [u8; NAME_ROOM],
    length: usize,
}

impl ReplicationProcess {
    /// `bgw_name`, which is never translated.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name[..self.length.min(NAME_ROOM)]
    }
}

/// Has each process that replicates call `check` before its first transaction commits: the one in which it reads its
/// subscription. Only while the library is being preloaded.
pub(crate) fn before_first_commit(check: fn()) {
    CHECK.set(Some(check));
}

/// A transaction of this process is about to commit. May raise.
pub(super) fn before_commit() {
    if let Some(check) = CHECK.take()
        && this().is_some()
    {
        check();
    }
}

/// This process, if it replicates.
pub(crate) fn this() -> Option<ReplicationProcess> {
    let mut name = [0; NAME_ROOM];
    let length = name_of_this(&mut name)?;
    Some(ReplicationProcess {
        // SAFETY: reads a variable of this process.
        database: unsafe { pg_sys::MyDatabaseId.to_u32() },
        name,
        length,
    })
}

/// Where the transaction that is being applied was committed on its origin, as `pg_lsn` has it.
pub(crate) fn origin_lsn() -> String {
    // SAFETY: reads a variable of this process.
    let lsn = unsafe { pg_sys::replorigin_session_origin_lsn };
    format!("{:X}/{:X}", lsn >> 32, lsn & u64::from(u32::MAX))
}

pub(super) fn init() {
    pg_shmem_init!(REGISTER);
}

/// The name of this process, if it replicates: the server's own workers for it, those of pglogical, and the sessions that
/// receive its copies, as `copy <application_name>`. Neither allocates nor raises.
pub(super) fn name_of_this(into: &mut [u8; NAME_ROOM]) -> Option<usize> {
    // SAFETY: variables of this process, which has one thread.
    unsafe {
        if pg_sys::MyBgworkerEntry.is_null() {
            return name_of_copy(into);
        }
        let entry = &*pg_sys::MyBgworkerEntry;
        let name = until_end(&entry.bgw_name);
        let replicates = match until_end(&entry.bgw_library_name) {
            // Its other workers are those of parallel queries.
            b"postgres" => name.starts_with(b"logical replication "),
            b"pglogical" => name.starts_with(b"pglogical "),
            _ => false,
        };
        replicates.then(|| put(into, &[name]))
    }
}

/// pglogical copies with a client session that it opens to its own server, as a replica.
unsafe fn name_of_copy(into: &mut [u8; NAME_ROOM]) -> Option<usize> {
    // SAFETY: variables of this process; the setting is a string or null.
    unsafe {
        if pg_sys::SessionReplicationRole != pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32 {
            return None;
        }
        let name = bytes(pg_sys::application_name);
        name.ends_with(b"_copy")
            .then(|| put(into, &[b"copy ", name]))
    }
}

fn put(into: &mut [u8; NAME_ROOM], parts: &[&[u8]]) -> usize {
    let bytes = parts.iter().copied().flatten();
    let mut length = 0;
    for (place, byte) in into.iter_mut().zip(bytes) {
        *place = *byte;
        length += 1;
    }
    length
}

/// Writes this process down, if it replicates and has not done so. Neither allocates nor raises.
pub(super) fn register() {
    if IS_REGISTERED.replace(true) || REGISTER.start().is_null() {
        return;
    }
    let Some(process) = this() else {
        return;
    };
    // SAFETY: reads a variable of this process.
    let pid = unsafe { pg_sys::MyProcPid };
    let free = places(pid).find(|entry| {
        let other = entry.pid.load(Ordering::Relaxed);
        // A number is given again only when its process is gone. SAFETY: signal 0 does nothing.
        other == pid || other == 0 || unsafe { libc::kill(other, 0) } != 0
    });
    if let Some(entry) = free {
        entry.pid.store(0, Ordering::Release);
        entry.name.set(process.name);
        entry.length.store(process.length as u32, Ordering::Relaxed);
        entry.database.store(process.database, Ordering::Relaxed);
        entry.pid.store(pid, Ordering::Release);
        // SAFETY: the callback is a function of this library, which is never unloaded. One that dies by a signal does not
        // get to it, and is still here when the postmaster looks.
        unsafe { pg_sys::on_shmem_exit(Some(forget), pg_sys::Datum::null()) };
    }
}

/// The number of this process may be given to another one.
#[pg_guard]
unsafe extern "C-unwind" fn forget(_code: i32, _argument: pg_sys::Datum) {
    // SAFETY: reads a variable of this process.
    let pid = unsafe { pg_sys::MyProcPid };
    if let Some(entry) = places(pid).find(|entry| entry.pid.load(Ordering::Relaxed) == pid) {
        entry.pid.store(0, Ordering::Release);
    }
}

/// What a process has written down. Neither allocates nor raises nor waits: for the postmaster.
pub(super) fn registered(pid: i32) -> Option<ReplicationProcess> {
    if REGISTER.start().is_null() {
        return None;
    }
    let entry = places(pid).find(|entry| entry.pid.load(Ordering::Acquire) == pid)?;
    Some(ReplicationProcess {
        database: entry.database.load(Ordering::Relaxed),
        name: entry.name.get(),
        length: entry.length.load(Ordering::Relaxed) as usize,
    })
}

fn places(pid: i32) -> impl Iterator<Item = &'static Entry> {
    let first = usize::try_from(pid).unwrap_or(0);
    (0..TRIES).map(move |step| {
        let place = first.wrapping_add(step) % ROOM;
        // SAFETY: the area has ROOM entries, for which all zeroes are valid, and stays as long as the server.
        unsafe { &*REGISTER.start().cast::<Entry>().add(place) }
    })
}
