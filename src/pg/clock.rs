//! The server's points in time.

use pgrx::pg_sys;

/// Microseconds since 2000, as the server counts, in seconds since 1970.
pub(crate) fn epoch_of(timestamp: pg_sys::TimestampTz) -> f64 {
    const DAYS: u32 = pg_sys::POSTGRES_EPOCH_JDATE - pg_sys::UNIX_EPOCH_JDATE;
    timestamp as f64 / 1e6 + f64::from(DAYS * pg_sys::SECS_PER_DAY)
}

unsafe extern "C-unwind" {
    /// `utils/adt/timestamp.c`; without pgrx's guard, which a hook of the postmaster cannot have.
    fn GetCurrentTimestamp() -> pg_sys::TimestampTz;
}

/// Microseconds since 2000. Neither allocates nor raises.
pub(super) fn now() -> pg_sys::TimestampTz {
    // SAFETY: reads the clock.
    unsafe { GetCurrentTimestamp() }
}
