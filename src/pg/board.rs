//! What the worker of a database knows, laid out for the sessions of that database: documents in dynamic shared memory.
//! They are there as long as the worker is; nothing is written to disk, and no transaction id is used. Without preloading
//! there is none.

use super::{databases, shared};
use pgrx::{PGRXSharedMemory, PgLwLock, PgTryBuilder, pg_guard, pg_shmem_init, pg_sys};
use std::cell::RefCell;
use std::ptr::NonNull;

/// The documents of a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// What is known of each subscription: small.
    Subscriptions = 0,
    /// What is known of tables that are not ready.
    Tables = 1,
}

const PARTS: usize = 2;
/// Databases whose workers can lay out something at the same time.
const ROOM: usize = 128;

#[derive(Clone, Copy, Default)]
struct Place {
    database: u32,
    /// The worker; 0: the place is free.
    pid: i32,
    documents: [Document; PARTS],
}

#[derive(Clone, Copy, Default)]
struct Document {
    /// Of the segment in which it is; 0: none.
    handle: pg_sys::dsm_handle,
    length: usize,
}

#[derive(Clone, Copy)]
struct Board([Place; ROOM]);

impl Default for Board {
    fn default() -> Self {
        Self([Place::default(); ROOM])
    }
}

// SAFETY: plain data without pointers.
unsafe impl PGRXSharedMemory for Board {}

// SAFETY: no other lock tranche has this name.
static BOARD: PgLwLock<Board> = unsafe { PgLwLock::new(c"replwarden_board") };

/// Asks for shared memory; only while the library is being preloaded.
pub(super) fn init() {
    pg_shmem_init!(BOARD);
}

/// A segment that this process has made and keeps until it ends.
struct Segment {
    segment: NonNull<pg_sys::dsm_segment>,
    size: usize,
}

thread_local! {
    static SEGMENTS: RefCell<[Option<Segment>; PARTS]> = const { RefCell::new([const { None }; PARTS]) };
}

/// Lays out a document of this process, which is the worker of its database, in place of an earlier one. Outside of a
/// transaction. False when there is no room.
pub(crate) fn publish(part: Part, text: &[u8]) -> bool {
    if !shared::is_preloaded() {
        return false;
    }
    SEGMENTS.with_borrow_mut(|segments| {
        let segment = &mut segments[part as usize];
        let is_large_enough = segment.as_ref().is_some_and(|one| one.size >= text.len());
        if !is_large_enough {
            let Some(larger) = Segment::create(text.len().next_power_of_two().max(4096)) else {
                return false;
            };
            if let Some(smaller) = segment.replace(larger) {
                withdraw(part);
                smaller.destroy();
            }
        }
        let Some(segment) = segment else {
            return false;
        };
        // SAFETY: reads variables of this process.
        let (pid, database) = unsafe { (pg_sys::MyProcPid, pg_sys::MyDatabaseId.to_u32()) };
        let mut board = BOARD.exclusive();
        let own = |place: &Place| place.pid == pid && place.database == database;
        // Workers leave their places as they are when they end. A database has one place only.
        let of_database = |place: &Place| place.pid != 0 && place.database == database;
        let is_free = |place: &Place| place.pid == 0 || !is_running(place.pid);
        let places = || board.0.iter();
        let index = places()
            .position(of_database)
            .or_else(|| places().position(is_free));
        let Some(index) = index else {
            return false;
        };
        let place = &mut board.0[index];
        if !own(place) {
            *place = Place {
                database,
                pid,
                ..Place::default()
            };
        }
        // SAFETY: the segment is large enough, and whoever reads holds the lock.
        place.documents[part as usize] = unsafe { segment.write(text) };
        true
    })
}

/// Before the segment of this process goes.
fn withdraw(part: Part) {
    // SAFETY: reads a variable of this process.
    let pid = unsafe { pg_sys::MyProcPid };
    let mut board = BOARD.exclusive();
    if let Some(place) = board.0.iter_mut().find(|place| place.pid == pid) {
        place.documents[part as usize] = Document::default();
    }
}

/// What the worker of the current database has laid out; `None` where there is none, or none that runs. Inside a
/// transaction.
pub(crate) fn read(part: Part) -> Option<Vec<u8>> {
    if !shared::is_preloaded() {
        return None;
    }
    let database = databases::current().to_u32();
    let board = BOARD.share();
    let place = board
        .0
        .iter()
        .find(|place| place.database == database && is_running(place.pid))?;
    let document = place.documents[part as usize];
    if document.handle == 0 {
        return None;
    }
    // SAFETY: a handle of dsm_create. The segment is gone if its process has just ended, which gives NULL. The document is
    // not written while the lock is held, and is copied.
    unsafe {
        let own = pg_sys::dsm_find_mapping(document.handle);
        let segment = if own.is_null() {
            pg_sys::dsm_attach(document.handle)
        } else {
            own
        };
        if segment.is_null() || pg_sys::dsm_segment_map_length(segment) < document.length {
            return None;
        }
        let start = pg_sys::dsm_segment_address(segment).cast::<u8>();
        let text = std::slice::from_raw_parts(start, document.length).to_vec();
        if own.is_null() {
            pg_sys::dsm_detach(segment);
        }
        Some(text)
    }
}

fn is_running(pid: i32) -> bool {
    // SAFETY: looks into the server's process array.
    pid != 0 && unsafe { !pg_sys::BackendPidGetProc(pid).is_null() }
}

impl Segment {
    fn create(size: usize) -> Option<Self> {
        // SAFETY: outside of a transaction no resource owner holds the segment, so it lives as long as this process.
        let create =
            || unsafe { pg_sys::dsm_create(size, pg_sys::DSM_CREATE_NULL_IF_MAXSEGMENTS as i32) };
        // It raises where there is no memory left for it (/dev/shm).
        let segment = PgTryBuilder::new(create)
            .catch_others(|_| std::ptr::null_mut())
            .execute();
        let segment = NonNull::new(segment)?;
        Some(Self { segment, size })
    }

    fn destroy(self) {
        // SAFETY: made by dsm_create, and used no more.
        unsafe { pg_sys::dsm_detach(self.segment.as_ptr()) };
    }

    /// # Safety
    /// The segment has room for the text, and nobody reads it.
    unsafe fn write(&self, text: &[u8]) -> Document {
        // SAFETY: the caller's promise.
        unsafe {
            let start = pg_sys::dsm_segment_address(self.segment.as_ptr()).cast::<u8>();
            std::ptr::copy_nonoverlapping(text.as_ptr(), start, text.len());
            Document {
                handle: pg_sys::dsm_segment_handle(self.segment.as_ptr()),
                length: text.len(),
            }
        }
    }
}
