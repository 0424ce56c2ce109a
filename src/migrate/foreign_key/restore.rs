//! Bringing foreign keys back, when somebody asks for it.

use super::book::{Book, Entry, Presence};
use super::detach::left_alone;
use super::orphan::{self, Orphans};
use super::{add, worker};
use crate::error::Error;
use crate::generated::table::OwnedTable;
use crate::migrate::copy_guard;
use crate::pg::subtransaction;
use pgrx::pg_sys;

/// Tables up to this size are looked at for orphans while the caller waits. A larger one is only read by the worker.
const QUICK: i64 = 256 * 1024 * 1024;

/// Brings keys back, and says what it did.
pub(super) fn restore(relation: Option<pg_sys::Oid>, validate: bool) -> Result<Vec<String>, Error> {
    let book = Book::find()?;
    let table = relation.map(OwnedTable::find_any).transpose()?;
    let entries = book.entries(relation)?;
    if let Some(table) = &table {
        let strange = |one: &&Entry| one.relation.is_some() && !one.is_owned;
        if let Some(other) = entries.iter().find(strange) {
            return Err(Error::NotTableOwner {
                table: other.relation_name.clone(),
            });
        }
        if entries.is_empty() {
            table.check_owner()?;
        }
    }
    let mut lines = Vec::new();
    let mut has_work = false;
    for entry in &entries {
        if entry.relation.is_some() && !entry.is_owned {
            lines.push(left_alone(
                &entry.relation_name,
                &entry.name,
                &entry.owner_name,
            ));
            continue;
        }
        let (said, works) = match entry.next(validate) {
            Next::Nothing => (None, false),
            Next::Forget => {
                book.forget(entry)?;
                (None, false)
            }
            Next::Problem(problem) => {
                book.note(entry, &problem, None)?;
                (Some(format!("is not back: {problem}")), false)
            }
            Next::Wait => (
                Some(format!(
                    "waits for {} to be copied, and comes back by itself then",
                    entry.awaits.as_deref().unwrap_or_default()
                )),
                true,
            ),
            Next::GoOn => (None, true),
            Next::Validate => check(&book, entry, "is NOT VALID")?,
            Next::Add => bring_back(&book, entry, validate)?,
        };
        lines.extend(
            said.map(|said| format!("{}: foreign key {} {said}", entry.relation_name, entry.name)),
        );
        has_work |= works;
    }
    if has_work || copy_guard::is_anywhere()? {
        worker::start_at_commit();
    }
    Ok(lines)
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    /// It is there, as it was.
    Forget,
    Problem(String),
    /// The table that it awaits is not ready.
    Wait,
    /// A worker has it in hand.
    GoOn,
    Validate,
    Add,
}

impl Entry {
    /// Why it cannot come back as things are.
    pub(super) fn hindrance(&self) -> Option<String> {
        if self.relation.is_none() {
            return Some(format!("there is no table {} any more", self.relation_name));
        }
        if self.referenced.is_none() {
            return Some(format!(
                "there is no table {} any more, to which it refers",
                self.referenced_name
            ));
        }
        (self.presence == Presence::Taken).then(|| {
            format!(
                "another constraint of {} has its name: ALTER TABLE {} RENAME CONSTRAINT {} TO …",
                self.relation_name, self.relation_name, self.name
            )
        })
    }

    fn next(&self, validate: bool) -> Next {
        if self.presence == Presence::Valid {
            return Next::Forget;
        }
        if let Some(problem) = self.hindrance() {
            return Next::Problem(problem);
        }
        match (self.task.as_deref(), self.presence) {
            (Some("restore"), _) if !self.is_ready => Next::Wait,
            (Some("validate"), _) => Next::GoOn,
            (_, Presence::NotValid) if !self.validated => Next::Forget,
            (_, Presence::NotValid) if validate => Next::Validate,
            (_, Presence::NotValid) => Next::Nothing,
            _ => Next::Add,
        }
    }
}

/// What is said of it, and whether there is something to do for a worker.
type Outcome = (Option<String>, bool);

/// Has a key validated that holds for new rows, unless rows are known to break it.
fn check(book: &Book, entry: &Entry, how: &str) -> Result<Outcome, Error> {
    if entry.size <= QUICK
        && let Some(orphans) = orphan::find(book, entry)?
        && orphans.number > 0
    {
        return tell(book, entry, how, &orphans);
    }
    book.set_task(entry, Some("validate"))?;
    Ok((Some(format!("{how}, and is being validated")), true))
}

fn tell(book: &Book, entry: &Entry, how: &str, orphans: &Orphans) -> Result<Outcome, Error> {
    let sentence = orphans.sentence(&entry.referenced_name);
    book.note(entry, &sentence, Some(orphans))?;
    Ok((Some(format!("{how}: {sentence}")), false))
}

fn bring_back(book: &Book, entry: &Entry, validate: bool) -> Result<Outcome, Error> {
    // Before there is any lock that keeps others from writing.
    let orphans = if validate && entry.validated && entry.size <= QUICK {
        orphan::find(book, entry)?.filter(|one| one.number > 0)
    } else {
        None
    };
    let outcome = subtransaction::run(add::is_of_the_key, || add::not_valid(entry));
    match outcome {
        Err(report) => {
            let problem = match report.detail() {
                Some(detail) => format!("{}. {detail}", report.message()),
                None => report.message().to_owned(),
            };
            book.note(entry, &problem, None)?;
            return Ok((Some(format!("is not back: {problem}")), false));
        }
        Ok(added) => added?,
    }
    if !entry.validated {
        book.forget(entry)?;
        return Ok((Some("is back, NOT VALID as it was".to_owned()), false));
    }
    if let Some(orphans) = orphans {
        return tell(book, entry, "is back, NOT VALID", &orphans);
    }
    if !validate {
        book.set_task(entry, None)?;
        let said = "is back, NOT VALID; repl_restore_foreign_keys() has it validated";
        return Ok((Some(said.to_owned()), false));
    }
    book.set_task(entry, Some("validate"))?;
    let said = "is back for new rows; existing ones are being validated";
    Ok((Some(said.to_owned()), true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(task: Option<&str>, presence: Presence) -> Entry {
        Entry {
            id: 1,
            relation: Some(pg_sys::Oid::from(16384)),
            relation_name: "public.orders".to_owned(),
            name: "fk".to_owned(),
            referenced: Some(pg_sys::Oid::from(16385)),
            referenced_name: "public.customer".to_owned(),
            definition: String::new(),
            comment: None,
            validated: true,
            task: task.map(str::to_owned),
            awaits: None,
            is_ready: true,
            is_owned: true,
            owner: None,
            owner_name: String::new(),
            presence,
            is_partitioned: false,
            size: 0,
        }
    }

    #[test]
    fn what_comes_next() {
        let next = |task, presence| entry(task, presence).next(true);
        assert_eq!(next(None, Presence::Absent), Next::Add);
        assert_eq!(next(Some("restore"), Presence::Absent), Next::Add);
        assert_eq!(next(Some("validate"), Presence::NotValid), Next::GoOn);
        assert_eq!(next(None, Presence::NotValid), Next::Validate);
        assert_eq!(entry(None, Presence::NotValid).next(false), Next::Nothing);
        assert_eq!(next(None, Presence::Valid), Next::Forget);
        assert!(matches!(next(None, Presence::Taken), Next::Problem(_)));
        let waiting = Entry {
            is_ready: false,
            ..entry(Some("restore"), Presence::Absent)
        };
        assert_eq!(waiting.next(true), Next::Wait);
        let as_it_was = Entry {
            validated: false,
            ..entry(None, Presence::NotValid)
        };
        assert_eq!(as_it_was.next(true), Next::Forget);
        let gone = Entry {
            referenced: None,
            ..entry(None, Presence::Absent)
        };
        assert!(matches!(gone.next(true), Next::Problem(_)));
    }
}
