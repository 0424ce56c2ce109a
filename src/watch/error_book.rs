//! Writes errors from shared memory, where newer ones take their place, to the table of errors, where they outlive the
//! server.

use super::event::Table;
use crate::error::Error;
use crate::guc;
use crate::pg::{encoding, error_ring};
use crate::subscription::captured::{self, CapturedError};
use crate::subscription::provider::Subscription;
use crate::subscription::publisher::epoch;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// An error that goes on coming is written anew after so long, in seconds: the view reads the newer count from memory.
const REPEAT: f64 = 60.0;
/// So often at most it is told that errors were lost.
const BETWEEN_LOSSES: Duration = Duration::from_secs(600);
/// One that has not come for so long is written for the last time.
const CALM: f64 = 10.0;

/// The errors of this database, as its worker knows them.
#[derive(Default)]
pub(crate) struct ErrorBook {
    /// What is in the table; `None`: not read yet.
    written: Option<Vec<CapturedError>>,
    /// When, and how often it had come, what was written last of an error that is in memory.
    last_written: HashMap<(i64, i64), (f64, i64)>,
    /// The number of errors that memory had been given at the last look.
    tickets: i64,
    dropped: i64,
    /// Were lost and not told of yet, and when it was last told.
    lost: i64,
    told_at: Option<Instant>,
    newest: Vec<CapturedError>,
}

impl ErrorBook {
    /// Reads what is new. In a transaction. Says how many errors were lost because more came than there is room for.
    pub(crate) fn look(&mut self, subscriptions: &[Subscription]) -> Result<i64, Error> {
        let count = error_ring::count();
        if self.written.is_none() {
            let written = captured::written()?;
            self.newest.clone_from(&written);
            self.written = Some(written);
            // What was lost before, nobody can tell.
            (self.tickets, self.dropped) = (count.tickets, count.dropped);
        }
        let before = (self.tickets, self.dropped);
        (self.tickets, self.dropped) = (count.tickets, count.dropped);
        if count.tickets > 0 {
            let in_memory = captured::in_memory(subscriptions);
            self.newest = captured::merge(in_memory, self.written.as_deref().unwrap_or_default());
        }
        self.lost += lost(before, &count);
        let is_early = self.told_at.is_some_and(|at| at.elapsed() < BETWEEN_LOSSES);
        if self.lost == 0 || is_early {
            return Ok(0);
        }
        self.told_at = Some(Instant::now());
        Ok(std::mem::take(&mut self.lost))
    }

    /// The newest first.
    pub(crate) fn newest(&self) -> &[CapturedError] {
        &self.newest
    }

    /// What has to be written.
    pub(crate) fn unwritten(&self, now: f64) -> Vec<CapturedError> {
        let written = self.written.as_deref().unwrap_or_default();
        let is_due = |error: &&CapturedError| {
            let key = (error.ring, error.ticket);
            match self.last_written.get(&key) {
                Some((at, number)) => {
                    error.occurrences > *number
                        && (error.last_at - at >= REPEAT || now - error.last_at >= CALM)
                }
                None => !written.contains(error),
            }
        };
        self.newest.iter().filter(is_due).cloned().collect()
    }

    /// They are written and committed.
    pub(crate) fn note_written(&mut self, errors: &[CapturedError]) {
        for error in errors {
            let key = (error.ring, error.ticket);
            self.last_written
                .insert(key, (error.last_at, error.occurrences));
        }
        if let Some(written) = &mut self.written
            && !errors.is_empty()
        {
            *written = captured::merge(errors.to_vec(), written);
            written.truncate(REMEMBERED);
        }
        let newest = &self.newest;
        self.last_written
            .retain(|key, _| newest.iter().any(|one| (one.ring, one.ticket) == *key));
    }
}

/// Of the errors in the table.
const REMEMBERED: usize = 200;

/// Errors that came between two looks and are in memory no more.
fn lost(before: (i64, i64), now: &error_ring::Count) -> i64 {
    let room = i64::try_from(guc::error_slots()).unwrap_or(i64::MAX);
    let (tickets, dropped) = before;
    (now.tickets - tickets - room).max(0) + (now.dropped - dropped).max(0)
}

/// Writes errors to the table. In a transaction.
pub(crate) fn write(errors: &[CapturedError]) -> Result<(), Error> {
    const WRITE: &str = "
        insert into {schema}._repl_errors (ring, ticket, last_at, error)
        select (e.error ->> 'ring')::bigint, (e.error ->> 'ticket')::bigint,
               to_timestamp((e.error ->> 'last_at')::float8), e.error
          from jsonb_array_elements($1::jsonb) as e (error)
        on conflict (ring, ticket) do update set last_at = excluded.last_at, error = excluded.error";
    if !errors.is_empty() {
        Table::find()?.run(WRITE, &[encoding::json(&errors).into()])?;
    }
    Ok(())
}

/// So many errors are kept, however young they are: each attempt may have a text of its own.
const KEPT: i64 = 10_000;

/// Deletes what is older than `replwarden.event_retention`, and what is too much. In a transaction; takes no transaction id
/// where there is nothing to delete.
pub(crate) fn expire() -> Result<(), Error> {
    const LIMIT: &str = "
        select greatest(to_timestamp($1), (select e.last_at from {schema}._repl_errors e order by e.last_at desc offset $2 limit 1))";
    let table = Table::find()?;
    let oldest = epoch() - guc::event_retention().as_secs_f64();
    let arguments = [oldest.into(), KEPT.into()];
    let has_some = table.reads(
        &format!("select 1 from {{schema}}._repl_errors e where e.last_at <= ({LIMIT}) limit 1"),
        &arguments,
    )?;
    if has_some {
        table.run(
            &format!("delete from {{schema}}._repl_errors e where e.last_at <= ({LIMIT})"),
            &arguments,
        )?;
    }
    Ok(())
}
