//! Deaths of server processes by a signal, as the postmaster sees them: written into its own memory, from which every
//! process that it starts later inherits it by fork. Shared memory would not survive the restart that follows.

use super::clock;
use super::replication_process::{self, ReplicationProcess};
use super::shared_area::bytes;
use pgrx::pg_sys;
use std::sync::Mutex;

const ROOM: usize = 64;

/// How a process died.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    /// In microseconds since 2000.
    pub(crate) at: i64,
    /// For how long the server had been up until then, in all its runs: without the time that its restarts took. In
    /// microseconds.
    pub(crate) uptime: i64,
    pub(crate) pid: i32,
    pub(crate) signal: i32,
    /// `None`: it did not replicate, or nobody knows.
    pub(crate) process: Option<ReplicationProcess>,
}

/// The oldest first. No process but the postmaster writes, which has one thread and waits for no lock here.
static DEATHS: Mutex<[Option<Death>; ROOM]> = Mutex::new([None; ROOM]);

/// Since when the server is up, and for how long it was before, in microseconds.
#[derive(Clone, Copy)]
struct Uptime {
    since: Option<i64>,
    before: i64,
}

impl Uptime {
    fn until(self, now: i64) -> i64 {
        self.before + self.since.map_or(0, |since| (now - since).max(0))
    }
}

static UPTIME: Mutex<Uptime> = Mutex::new(Uptime {
    since: None,
    before: 0,
});

/// Notes what the postmaster is logging, if it is the death of a child, or that the server is up.
///
/// # Safety
/// Called in the postmaster by the server's hook, with its error.
pub(super) unsafe fn note(error: &pg_sys::ErrorData) {
    // SAFETY: strings of the error, or null.
    let (id, message) = unsafe { (bytes(error.message_id), bytes(error.message)) };
    if id == b"database system is ready to accept connections" {
        if let Ok(mut uptime) = UPTIME.try_lock() {
            uptime.since = Some(clock::now());
        }
        return;
    }
    // `LogChildExit` of `postmaster/postmaster.c`; the id is the text before translation.
    if !id.starts_with(b"%s (PID %d) was terminated by signal %d") {
        return;
    }
    let Some((pid, signal)) = pid_and_signal(message, |pid| {
        replication_process::registered(pid).is_some()
    }) else {
        return;
    };
    let now = clock::now();
    let mut up = 0;
    if let Ok(mut uptime) = UPTIME.try_lock() {
        up = uptime.until(now);
        *uptime = Uptime {
            since: None,
            before: up,
        };
    }
    let death = Death {
        at: now,
        uptime: up,
        pid,
        signal,
        process: replication_process::registered(pid),
    };
    if let Ok(mut deaths) = DEATHS.try_lock() {
        match deaths.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(death),
            None => {
                deaths.rotate_left(1);
                deaths[ROOM - 1] = Some(death);
            }
        }
    }
}

/// For how long the server has been up, in all its runs, in microseconds.
pub(crate) fn uptime() -> i64 {
    let uptime = UPTIME.try_lock();
    uptime.map_or(0, |uptime| uptime.until(clock::now()))
}

/// The deaths that the postmaster had seen when it started this process, the oldest first.
pub(crate) fn deaths() -> Vec<Death> {
    let deaths = DEATHS.try_lock();
    deaths.map_or_else(
        |_| Vec::new(),
        |deaths| deaths.iter().flatten().copied().collect(),
    )
}

/// The message in any language: the name of the process, perhaps with numbers in it, then the two numbers. A process that is
/// known to replicate is known by its number.
fn pid_and_signal(message: &[u8], is_known: impl Fn(i32) -> bool) -> Option<(i32, i32)> {
    let numbers = || {
        message
            .split(|byte| !byte.is_ascii_digit())
            .filter_map(|part| std::str::from_utf8(part).ok()?.parse::<i32>().ok())
    };
    let pairs = || numbers().zip(numbers().skip(1));
    pairs()
        .find(|(pid, _)| is_known(*pid))
        // A server process: its name has no number.
        .or_else(|| pairs().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_read_in_any_language() {
        let read = |message: &str| pid_and_signal(message.as_bytes(), |pid| pid == 123 || pid == 7);
        assert_eq!(
            read(
                "background worker \"pglogical apply 5:16390\" (PID 123) was terminated by signal 11: Segmentation fault"
            ),
            Some((123, 11))
        );
        assert_eq!(
            read(
                "Background-Worker »pglogical apply 5:1« (PID 7) wurde von Signal 11 beendet: Speicherzugriffsfehler"
            ),
            Some((7, 11))
        );
        assert_eq!(
            read("server process (PID 99) was terminated by signal 9: Killed"),
            Some((99, 9))
        );
        assert_eq!(read("something else"), None);
    }
}
