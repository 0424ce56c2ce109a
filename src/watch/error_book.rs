//! Writes errors from shared memory, where newer ones take their place, to the table of errors, where they outlive the
//! server.

use super::event::Table;
use crate::error::Error;
use crate::guc;
use crate::pg::{encoding, error_ring};
use crate::subscription::captured::{self, CapturedError, Memory};
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
    memory: Memory,
    /// What is in the table; `None`: not read yet.
    written: Option<Vec<CapturedError>>,
    /// When, and how often it had come, what was written last of an error that is in memory.
    last_written: HashMap<(i64, i64), (f64, i64)>,
    /// In memory no more, and not written with all of their occurrences; the one that left last comes last.
    left: Vec<CapturedError>,
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
        let is_first = self.written.is_none();
        if is_first {
            let written = captured::written()?;
            self.newest.clone_from(&written);
            self.written = Some(written);
            // What was lost before, nobody can tell.
            (self.tickets, self.dropped) = (count.tickets, count.dropped);
        }
        let before = (self.tickets, self.dropped);
        (self.tickets, self.dropped) = (count.tickets, count.dropped);
        if count.tickets > 0 {
            self.memory.look(subscriptions);
            self.take_left(is_first);
            if self.memory.take_change() || is_first {
                let mut errors: Vec<CapturedError> = self.memory.errors().cloned().collect();
                errors.extend_from_slice(&self.left);
                self.newest = captured::merge(errors, self.written.as_deref().unwrap_or_default());
            }
        }
        self.lost += lost(before, &count);
        let is_early = self.told_at.is_some_and(|at| at.elapsed() < BETWEEN_LOSSES);
        if self.lost == 0 || is_early {
            return Ok(0);
        }
        self.told_at = Some(Instant::now());
        Ok(std::mem::take(&mut self.lost))
    }

    /// Keeps those that memory holds no more until they are written.
    fn take_left(&mut self, is_first: bool) {
        let mut left = self.memory.take_left();
        if is_first {
            // The worker before this one may have ended before it could write all of their occurrences.
            let written = self.written.iter().flatten();
            left.extend(written.filter_map(|error| self.memory.last_of(error)));
        }
        left.retain(|error| !self.is_written(error));
        self.left.append(&mut left);
        // Nobody may be able to write for long.
        let excess = self.left.len().saturating_sub(guc::error_slots());
        self.left.drain(..excess);
        self.lost += i64::try_from(excess).unwrap_or(i64::MAX);
    }

    /// With all of its occurrences.
    fn is_written(&self, error: &CapturedError) -> bool {
        match self.last_written.get(&error.key()) {
            Some((_, occurrences)) => error.occurrences <= *occurrences,
            None => self.written.iter().flatten().any(|one| one == error),
        }
    }

    /// The newest first.
    pub(crate) fn newest(&self) -> &[CapturedError] {
        &self.newest
    }

    /// What has to be written.
    pub(crate) fn unwritten(&self, now: f64) -> Vec<CapturedError> {
        let is_due = |error: &&CapturedError| {
            let has_left = || self.left.iter().any(|one| one.key() == error.key());
            let last_written = self.last_written.get(&error.key());
            let is_early = last_written.is_some_and(|(at, _)| is_early(error, *at, now));
            !self.is_written(error) && (!is_early || has_left())
        };
        self.newest.iter().filter(is_due).cloned().collect()
    }

    /// They are written and committed.
    pub(crate) fn note_written(&mut self, errors: &[CapturedError]) {
        for error in errors {
            self.last_written
                .insert(error.key(), (error.last_at, error.occurrences));
        }
        self.left
            .retain(|one| !errors.iter().any(|error| error.key() == one.key()));
        if let Some(written) = &mut self.written
            && !errors.is_empty()
        {
            *written = captured::merge(errors.to_vec(), written);
            written.truncate(REMEMBERED);
        }
        let newest = &self.newest;
        self.last_written
            .retain(|key, _| newest.iter().any(|one| one.key() == *key));
    }
}

/// Of the errors in the table.
const REMEMBERED: usize = 200;

/// An error that goes on coming is not written each time. `written_at`: when it had come last when it was written.
fn is_early(error: &CapturedError, written_at: f64, now: f64) -> bool {
    error.last_at - written_at < REPEAT && now - error.last_at < CALM
}

/// Errors that came between two looks and are in memory no more. Of one that was seen before, occurrences are lost only
/// where its place was taken twice, which more tickets than places tell, too.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(ticket: i64, occurrences: i64, last_at: f64) -> CapturedError {
        CapturedError {
            ring: 7,
            ticket,
            occurrences,
            last_at,
            ..CapturedError::default()
        }
    }

    /// Of errors that were in memory and are written.
    fn book(errors: &[CapturedError]) -> ErrorBook {
        let mut book = ErrorBook {
            written: Some(Vec::new()),
            newest: errors.to_vec(),
            ..ErrorBook::default()
        };
        book.note_written(errors);
        book
    }

    fn due(book: &ErrorBook, now: f64) -> Vec<(i64, i64)> {
        let unwritten = book.unwritten(now);
        unwritten
            .iter()
            .map(|one| (one.ticket, one.occurrences))
            .collect()
    }

    #[test]
    fn error_that_goes_on_is_written_seldom_and_once_more_when_it_has_ended() {
        let mut book = book(&[error(1, 1, 100.0)]);
        assert_eq!(due(&book, 200.0), []);
        book.newest = vec![error(1, 40, 150.0)];
        assert_eq!(due(&book, 151.0), []);
        assert_eq!(due(&book, 150.0 + CALM), [(1, 40)]);
        book.newest = vec![error(1, 50, 100.0 + REPEAT)];
        assert_eq!(due(&book, 100.0 + REPEAT), [(1, 50)]);
    }

    #[test]
    fn error_that_is_in_memory_no_more_is_written_at_once() {
        let mut book = book(&[error(1, 1, 100.0), error(2, 1, 100.0)]);
        book.left = vec![error(1, 40, 101.0)];
        book.newest = vec![error(1, 40, 101.0), error(2, 2, 101.0)];
        assert_eq!(due(&book, 101.0), [(1, 40)]);
        book.note_written(&[error(1, 40, 101.0)]);
        assert!(book.left.is_empty());
        assert_eq!(due(&book, 101.0), []);
    }

    #[test]
    fn error_that_no_worker_has_written_is_written_when_it_has_left() {
        let mut book = book(&[]);
        book.left = vec![error(1, 3, 100.0)];
        book.newest = book.left.clone();
        assert_eq!(due(&book, 100.0), [(1, 3)]);
    }

    #[test]
    fn more_tickets_than_places_are_lost() {
        let room = i64::try_from(guc::error_slots()).unwrap_or_default();
        let count = |tickets| error_ring::Count {
            ring: 7,
            tickets,
            dropped: 2,
        };
        assert_eq!(lost((10, 2), &count(10 + room)), 0);
        assert_eq!(lost((10, 1), &count(13 + room)), 4);
    }
}
