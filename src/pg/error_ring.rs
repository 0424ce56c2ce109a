//! The last errors of the processes that replicate, in shared memory. Whoever logs an error writes it here: without a lock,
//! for it may hold any, without allocating, for there may be no memory, and without waiting for anybody. So each place has
//! a sequence that is odd while somebody writes, and who finds a place taken goes to the next.

use super::clock;
use super::encoding::to_utf8;
use super::replication_process::{self, NAME_ROOM};
use super::shared_area::{SharedArea, bytes};
use crate::guc;
use pgrx::{PgLogLevel, pg_guard, pg_shmem_init, pg_sys};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering, fence};

/// Places that are tried by one who writes.
const TRIES: usize = 8;

const LONG: usize = 2048;
const MEDIUM: usize = 1024;
const SHORT: usize = 192;

/// The beginning and the end of a text.
#[derive(Clone, Copy)]
#[repr(C)]
struct Text<const ROOM: usize> {
    length: u64,
    bytes: [u8; ROOM],
}

/// How often an error has come, which is all that changes of it.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Tally {
    pub(crate) ticket: i64,
    pub(crate) occurrences: i64,
    /// In microseconds since 2000.
    pub(crate) last_at: i64,
    pub(crate) pid: i32,
}

/// What stands in a place. All of it is valid as zeroes.
#[derive(Clone, Copy)]
#[repr(C)]
struct Body {
    ticket: u64,
    /// Of the error that was here before: nobody else can tell any more how often it has come.
    displaced: Tally,
    first_at: i64,
    database: u32,
    level: i32,
    sqlstate: i32,
    process_length: u32,
    process: [u8; NAME_ROOM],
    message_id: Text<SHORT>,
    message: Text<MEDIUM>,
    detail: Text<MEDIUM>,
    hint: Text<MEDIUM>,
    context: Text<LONG>,
    schema: Text<SHORT>,
    table: Text<SHORT>,
}

#[repr(C)]
struct Place {
    /// Odd: somebody writes.
    sequence: AtomicU64,
    /// Of what makes two errors the same; 0: none.
    hash: AtomicU64,
    /// The lower half of the ticket, then how often the error has come: so nobody counts for an error that was here before.
    tally: AtomicU64,
    last_at: AtomicI64,
    last_pid: AtomicI32,
    body: std::cell::UnsafeCell<Body>,
}

#[repr(C)]
struct Header {
    /// When the ring was made, in microseconds since 2000: tells its tickets from those of an earlier one.
    made_at: AtomicI64,
    /// The next one; the first is 1.
    tickets: AtomicU64,
    /// Errors for which no place could be had.
    dropped: AtomicU64,
}

static RING: SharedArea = SharedArea::new(c"replwarden_errors", || {
    size_of::<Header>() + guc::error_slots() * size_of::<Place>()
});

/// An error as it was logged, in the encoding of its database.
#[derive(Default)]
pub(crate) struct LoggedError {
    pub(crate) tally: Tally,
    pub(crate) first_at: i64,
    /// `elevel`
    pub(crate) level: i32,
    /// Packed.
    pub(crate) sqlstate: i32,
    /// Of the process.
    pub(crate) process: String,
    pub(crate) message_id: String,
    pub(crate) message: String,
    pub(crate) detail: String,
    pub(crate) hint: String,
    pub(crate) context: String,
    pub(crate) schema: String,
    pub(crate) table: String,
}

/// Asks for shared memory; only while the library is being preloaded.
pub(super) fn init() {
    pg_shmem_init!(RING);
}

fn header() -> Option<&'static Header> {
    // SAFETY: the area begins with the header, for which zeroes are valid, and stays as long as the server.
    unsafe { RING.start().cast::<Header>().as_ref() }
}

fn places() -> &'static [Place] {
    let start = RING.start();
    if start.is_null() {
        return &[];
    }
    // SAFETY: so many places follow the header, for which zeroes are valid.
    unsafe {
        let first = start.add(size_of::<Header>()).cast::<Place>();
        std::slice::from_raw_parts(first, guc::error_slots())
    }
}

/// Writes down what this process is logging, if it replicates and it is an error.
///
/// # Safety
/// Called by the server's hook, with its error.
pub(super) unsafe fn capture(error: &pg_sys::ErrorData) {
    let least = match error.sqlerrcode {
        SQLSTATE_LIMIT_EXCEEDED => PgLogLevel::WARNING,
        _ => PgLogLevel::ERROR,
    };
    if error.elevel < least as i32 {
        return;
    }
    let mut process = [0; NAME_ROOM];
    let Some(process_length) = replication_process::name_of_this(&mut process) else {
        return;
    };
    let Some(header) = header() else {
        return;
    };
    // SAFETY: strings of the error, or null; variables of this process; the function reads the clock.
    unsafe {
        let now = clock::now();
        let texts = [error.message, error.detail, error.context].map(|text| bytes(text));
        let database = pg_sys::MyDatabaseId.to_u32();
        let hash = hash(database, error.sqlerrcode, &process, texts);
        if repeat(hash, now) {
            return;
        }
        let _ = header
            .made_at
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        let Some((place, ticket)) = take_place(header) else {
            header.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let short = (ticket & u64::from(u32::MAX)) << u32::BITS;
        place.hash.store(0, Ordering::Relaxed);
        // Who is about to count a repetition of what was here no longer can.
        let tally = place.tally.swap(short, Ordering::AcqRel);
        let body = place.body.get();
        (*body).displaced = Tally {
            ticket: (*body).ticket as i64,
            occurrences: (tally & u64::from(u32::MAX)) as i64,
            last_at: place.last_at.load(Ordering::Relaxed),
            pid: place.last_pid.load(Ordering::Relaxed),
        };
        (*body).ticket = ticket;
        (*body).first_at = now;
        (*body).database = database;
        (*body).level = error.elevel;
        (*body).sqlstate = error.sqlerrcode;
        (*body).process_length = process_length as u32;
        (*body).process = process;
        (*body).message_id.set(bytes(error.message_id));
        (*body).message.set(texts[0]);
        (*body).detail.set(texts[1]);
        (*body).hint.set(bytes(error.hint));
        (*body).context.set(texts[2]);
        (*body).schema.set(bytes(error.schema_name));
        (*body).table.set(bytes(error.table_name));
        place.last_at.store(now, Ordering::Relaxed);
        place.last_pid.store(pg_sys::MyProcPid, Ordering::Relaxed);
        place.tally.store(short | 1, Ordering::Relaxed);
        place.hash.store(hash, Ordering::Relaxed);
        place.sequence.fetch_add(1, Ordering::Release);
    }
}

/// `ERRCODE_CONFIGURATION_LIMIT_EXCEEDED`: out of worker slots is but a warning (`replication/logical/launcher.c`).
const SQLSTATE_LIMIT_EXCEEDED: i32 =
    pgrx::PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED as i32;

/// FNV-1a, never 0.
fn hash(database: u32, sqlstate: i32, process: &[u8], texts: [&[u8]; 3]) -> u64 {
    let numbers = [database.to_le_bytes(), sqlstate.to_le_bytes()];
    let parts = [process, texts[0], texts[1], texts[2]];
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    numbers.as_flattened().iter().for_each(|byte| add(*byte));
    for part in parts {
        part.iter().for_each(|byte| add(*byte));
        add(0xff);
    }
    hash.max(1)
}

/// Counts an error that is here already.
fn repeat(hash: u64, now: i64) -> bool {
    for place in places() {
        if place.hash.load(Ordering::Acquire) != hash {
            continue;
        }
        for _ in 0..TRIES {
            let tally = place.tally.load(Ordering::Acquire);
            let is_same = place.hash.load(Ordering::Acquire) == hash;
            if !is_same || tally & u64::from(u32::MAX) == u64::from(u32::MAX) {
                break;
            }
            let counted =
                place
                    .tally
                    .compare_exchange(tally, tally + 1, Ordering::AcqRel, Ordering::Relaxed);
            if counted.is_ok() {
                place.last_at.fetch_max(now, Ordering::Relaxed);
                // SAFETY: a variable of this process.
                let pid = unsafe { pg_sys::MyProcPid };
                place.last_pid.store(pid, Ordering::Relaxed);
                return true;
            }
        }
    }
    false
}

/// A place that belongs to this process until it makes its sequence even again.
fn take_place(header: &Header) -> Option<(&'static Place, u64)> {
    let places = places();
    (0..TRIES).find_map(|_| {
        let ticket = header.tickets.fetch_add(1, Ordering::Relaxed) + 1;
        let place = places.get((ticket % places.len().max(1) as u64) as usize)?;
        let sequence = place.sequence.load(Ordering::Relaxed);
        let is_free = sequence % 2 == 0
            && place
                .sequence
                .compare_exchange(sequence, sequence + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        fence(Ordering::Release);
        is_free.then_some((place, ticket))
    })
}

/// As the server log has it.
pub(crate) fn level_word(level: i32) -> &'static str {
    match level {
        _ if level >= PgLogLevel::PANIC as i32 => "PANIC",
        _ if level >= PgLogLevel::FATAL as i32 => "FATAL",
        _ if level >= PgLogLevel::ERROR as i32 => "ERROR",
        _ => "WARNING",
    }
}

/// Which ring it is, how many errors it was given, and for how many there was no place.
pub(crate) struct Count {
    /// 0: it holds nothing.
    pub(crate) ring: i64,
    pub(crate) tickets: i64,
    pub(crate) dropped: i64,
}

pub(crate) fn count() -> Count {
    let read = |value: &AtomicU64| i64::try_from(value.load(Ordering::Relaxed)).unwrap_or(0);
    header().map_or(
        Count {
            ring: 0,
            tickets: 0,
            dropped: 0,
        },
        |header| Count {
            ring: header.made_at.load(Ordering::Relaxed),
            tickets: read(&header.tickets),
            dropped: read(&header.dropped),
        },
    )
}

/// What is in the ring.
#[derive(Default)]
pub(crate) struct Contents {
    /// As [`Count::ring`].
    pub(crate) ring: i64,
    /// Of errors whose texts the reader has already.
    pub(crate) known: Vec<Tally>,
    pub(crate) new: Vec<LoggedError>,
    /// Of errors in whose places there are others now, of whatever database.
    pub(crate) displaced: Vec<Tally>,
}

/// The errors of processes of one database, and of those that are connected to none.
pub(crate) fn read(database: u32, is_known: impl Fn(i64) -> bool) -> Contents {
    let mut contents = Contents::default();
    for place in places() {
        let reading = (0..TRIES).find_map(|_| read_place(place, database, &is_known));
        let Some(reading) = reading else {
            continue;
        };
        if reading.displaced.ticket > 0 {
            contents.displaced.push(reading.displaced);
        }
        match (reading.here, reading.body) {
            (Some(tally), Some(body)) => contents.new.push(body.logged(tally)),
            (Some(tally), None) => contents.known.push(tally),
            (None, _) => (),
        }
    }
    contents.new.sort_by_key(|error| error.tally.ticket);
    // After what was read, so that it is not read before it is set.
    contents.ring = count().ring;
    contents
}

/// Of a place.
#[derive(Default)]
struct Reading {
    displaced: Tally,
    /// `None`: nothing for this database.
    here: Option<Tally>,
    /// `None`: known.
    body: Option<Box<Body>>,
}

/// `None`: somebody writes.
fn read_place(place: &Place, database: u32, is_known: impl Fn(i64) -> bool) -> Option<Reading> {
    let before = place.sequence.load(Ordering::Acquire);
    if before % 2 == 1 {
        return None;
    }
    if before == 0 {
        return Some(Reading::default());
    }
    let body = place.body.get();
    // SAFETY: somebody may write at the same time, which the sequence tells afterwards; whatever the bytes are, they are
    // of a Body.
    let (ticket, owner, displaced) = unsafe {
        (
            (&raw const (*body).ticket).read_volatile(),
            (&raw const (*body).database).read_volatile(),
            (&raw const (*body).displaced).read_volatile(),
        )
    };
    let ticket = i64::try_from(ticket).unwrap_or(0);
    let is_ours = owner == 0 || owner == database;
    // SAFETY: as above.
    let body = (is_ours && !is_known(ticket)).then(|| unsafe { copy(body) });
    let tally = Tally {
        ticket,
        occurrences: (place.tally.load(Ordering::Acquire) & u64::from(u32::MAX)) as i64,
        last_at: place.last_at.load(Ordering::Relaxed),
        pid: place.last_pid.load(Ordering::Relaxed),
    };
    fence(Ordering::Acquire);
    let is_whole = place.sequence.load(Ordering::Relaxed) == before;
    is_whole.then_some(Reading {
        displaced,
        here: is_ours.then_some(tally),
        body,
    })
}

/// Word by word: a volatile read of all of it at once becomes an instruction for each byte, at which the compiler is busy for
/// minutes.
///
/// # Safety
/// That of reading it while somebody may write.
unsafe fn copy(body: *const Body) -> Box<Body> {
    const WORDS: usize = size_of::<Body>() / size_of::<u64>();
    const {
        assert!(
            WORDS * size_of::<u64>() == size_of::<Body>()
                && align_of::<Body>() == align_of::<u64>()
        )
    };
    let mut copy = Box::<Body>::new_uninit();
    let (from, to) = (body.cast::<u64>(), copy.as_mut_ptr().cast::<u64>());
    // SAFETY: within both; whatever the words are, they are those of a Body.
    unsafe {
        for word in 0..WORDS {
            to.add(word).write(from.add(word).read_volatile());
        }
        copy.assume_init()
    }
}

impl Body {
    fn logged(&self, tally: Tally) -> LoggedError {
        let process = &self.process[..(self.process_length as usize).min(NAME_ROOM)];
        LoggedError {
            tally,
            first_at: self.first_at,
            level: self.level,
            sqlstate: self.sqlstate,
            process: to_utf8(process),
            message_id: self.message_id.get(),
            message: self.message.get(),
            detail: self.detail.get(),
            hint: self.hint.get(),
            context: self.context.get(),
            schema: self.schema.get(),
            table: self.table.get(),
        }
    }
}

impl<const ROOM: usize> Text<ROOM> {
    /// Of a text that is too long, the beginning, which says what, and the end, where the context says which transaction.
    fn set(&mut self, text: &[u8]) {
        if text.len() <= ROOM {
            self.bytes[..text.len()].copy_from_slice(text);
            self.length = text.len() as u64;
            return;
        }
        const GAP: &[u8] = b" ... ";
        let half = (ROOM - GAP.len()) / 2;
        let head = &text[..boundary(text, half)];
        let mut from = text.len() - half;
        while from < text.len() && is_inside_character(text[from]) {
            from += 1;
        }
        let parts = head.iter().chain(GAP).chain(&text[from..]);
        let mut length = 0;
        for (place, byte) in self.bytes.iter_mut().zip(parts) {
            *place = *byte;
            length += 1;
        }
        self.length = length;
    }

    fn get(&self) -> String {
        to_utf8(self.bytes())
    }

    fn bytes(&self) -> &[u8] {
        let length = usize::try_from(self.length).unwrap_or(0).min(ROOM);
        &self.bytes[..length]
    }
}

/// Where to cut a text so that no character is cut (of UTF-8; in other encodings a byte less or two).
fn boundary(text: &[u8], most: usize) -> usize {
    let mut end = most;
    while end > 0 && is_inside_character(text[end]) {
        end -= 1;
    }
    end
}

fn is_inside_character(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_keeps_its_beginning_and_its_end() {
        let mut text = Text::<SHORT> {
            length: 0,
            bytes: [0; SHORT],
        };
        let long = format!("begin {} finished at 0/1A", "ä".repeat(500));
        text.set(long.as_bytes());
        let kept = str::from_utf8(text.bytes()).unwrap_or_default();
        assert!(kept.starts_with("begin ää"), "{kept}");
        assert!(kept.ends_with("ää finished at 0/1A"), "{kept}");
        text.set(b"short");
        assert_eq!(text.bytes(), b"short");
    }

    #[test]
    fn errors_are_the_same_by_all_that_tells_them_apart() {
        let one = hash(1, 2, b"apply", [b"a", b"", b"c"]);
        assert_eq!(one, hash(1, 2, b"apply", [b"a", b"", b"c"]));
        assert_ne!(one, hash(2, 2, b"apply", [b"a", b"", b"c"]));
        assert_ne!(one, hash(1, 2, b"apply", [b"", b"a", b"c"]));
        assert_ne!(one, hash(1, 2, b"sync", [b"a", b"", b"c"]));
    }
}
