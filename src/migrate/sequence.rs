//! `repl_sync_sequences()`: rows arrive with the publisher's numbers, and the sequences here stand still until they are set.

mod position;
mod publisher;

use crate::error::Error;
use crate::pg::relation::{Lock, Relation};
use crate::pg::{encoding, session, spi};
use crate::subscription::access;
use crate::subscription::quote::{ascii_identifier, identifier};
use pgrx::pg_sys;
use pgrx::prelude::*;
use position::{Misfit, Position, Range, Target, positions_by_id, positions_query};
use publisher::PublisherSequence;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ffi::CStr;

pub(super) use publisher::sequences as of_publisher;

/// So many are named at once. The rest comes up when these are mended.
const NAMED: usize = 20;

/// `sql/local_sequences.sql`
#[derive(Debug, Clone, Deserialize)]
pub(super) struct LocalSequence {
    /// Of the publisher's sequence that it follows.
    place: usize,
    id: u32,
    schema: String,
    name: String,
    owner: u32,
    /// With its schema, quoted where need be.
    pub(super) shown: String,
    range: Range,
    may_set: bool,
}

/// One of the publisher's, and the one here that follows it.
pub(super) struct Follower {
    pub(super) there: PublisherSequence,
    /// With where it is.
    pub(super) here: Option<(LocalSequence, Position)>,
}

/// A row of `repl_sync_sequences()`: each is the `last_value` of a sequence.
#[derive(Debug, Serialize)]
struct Row {
    sequence: u32,
    publisher_value: Option<i64>,
    old_value: i64,
    new_value: i64,
}

/// What has to be done about one that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It need not be moved.
    Ahead,
    Behind(Target),
    /// The publisher does not tell.
    Unknown,
    Unfit(Misfit),
}

/// `_repl_sync_sequences()`
#[pg_extern(sql = false)]
fn repl_sync_sequences(subscription: Option<&CStr>, headroom: Option<i64>) -> String {
    session::refuse_read_only(c"repl_sync_sequences()");
    match session::with_safe_search_path(|| rows(subscription, headroom)) {
        Ok(rows) => encoding::json(&rows),
        Err(error) => error.raise(),
    }
}

fn rows(name: Option<&CStr>, headroom: Option<i64>) -> Result<Vec<Row>, Error> {
    let subscription = access::subscription(name)?;
    let headroom = headroom.ok_or(Error::NullArgument("headroom"))?;
    if headroom < 0 {
        return Err(Error::InvalidHeadroom { value: headroom });
    }
    let mut publisher = access::publisher_of(&subscription)?;
    let there = of_publisher(&subscription, &mut publisher)
        .map_err(|unheard| Error::unheard(&subscription, unheard))?;
    let followers = followers(there)?;
    check_rights(&followers, headroom)?;
    warn_of_missing(&followers);
    warn_of_unread(&followers);
    let mut rows = Vec::new();
    for one in &followers {
        if let Some((local, position)) = &one.here {
            rows.extend(one.follow(local, *position, headroom)?);
        }
    }
    Ok(rows)
}

/// What there is here of the sequences of a publisher, in their order.
pub(super) fn followers(there: Vec<PublisherSequence>) -> Result<Vec<Follower>, Error> {
    let names: Vec<[Option<&str>; 5]> = there.iter().map(names).collect();
    let arguments = [
        encoding::json(&names).into(),
        session::current_role().into(),
    ];
    let found: Vec<LocalSequence> =
        spi::document(include_str!("sql/local_sequences.sql"), &arguments)?;
    let positions = positions(&found)?;
    let mut here: HashMap<usize, (LocalSequence, Position)> = found
        .into_iter()
        .filter_map(|one| {
            let position = positions.get(&one.id).copied()?;
            Some((one.place, (one, position)))
        })
        .collect();
    let there = there.into_iter().enumerate();
    Ok(there
        .map(|(place, there)| Follower {
            there,
            here: here.remove(&place),
        })
        .collect())
}

fn names(one: &PublisherSequence) -> [Option<&str>; 5] {
    let owner = one.owner.as_ref();
    [
        Some(&one.schema),
        Some(&one.name),
        owner.map(|owner| owner.schema.as_str()),
        owner.map(|owner| owner.table.as_str()),
        owner.map(|owner| owner.column.as_str()),
    ]
}

/// With the rights of their owners: whoever may set a sequence may not always read it.
fn positions(sequences: &[LocalSequence]) -> Result<HashMap<u32, Position>, Error> {
    let mut by_owner: HashMap<u32, Vec<(u32, String)>> = HashMap::new();
    for one in sequences {
        let names = by_owner.entry(one.owner).or_default();
        names.push((one.id, one.sql_name()));
    }
    let parts = by_owner
        .into_iter()
        .map(|(owner, names)| (owner, positions_query(&names)));
    let mut positions = HashMap::new();
    for text in spi::read_as_owners(parts, |row| spi::required::<String>(row, 1))? {
        let found = serde_json::from_str(&text)
            .map_err(|error| Error::UnreadableDocument(error.to_string()))?;
        positions.extend(positions_by_id(found));
    }
    Ok(positions)
}

impl LocalSequence {
    fn sql_name(&self) -> String {
        format!(
            "{}.{}",
            ascii_identifier(&self.schema),
            ascii_identifier(&self.name)
        )
    }

    /// `setval()` writes at once and stays whatever becomes of the transaction.
    fn set(&self, position: Position) -> Result<(), Error> {
        let arguments = [
            pg_sys::Oid::from(self.id).into(),
            position.last_value.into(),
            position.is_called.into(),
        ];
        const SET: &str = "select pg_catalog.setval($1::regclass, $2, $3)";
        spi::query_kept(SET, &arguments, |_| Ok(())).map(|_| ())
    }
}

impl Follower {
    pub(super) fn verdict(&self, local: &LocalSequence, here: Position, headroom: i64) -> Verdict {
        let Some(there) = self.there.position else {
            return Verdict::Unknown;
        };
        match local.range.target(there, self.there.increment, headroom) {
            Ok(target) if local.range.is_short_of(target.position, here) => Verdict::Behind(target),
            Ok(_) => Verdict::Ahead,
            Err(misfit) => Verdict::Unfit(misfit),
        }
    }

    /// Sets it, if it is behind. `None` if it is gone by now.
    fn follow(
        &self,
        local: &LocalSequence,
        seen: Position,
        headroom: i64,
    ) -> Result<Option<Row>, Error> {
        let mut row = Row {
            sequence: local.id,
            publisher_value: self.there.position.map(|there| there.last_value),
            old_value: seen.last_value,
            new_value: seen.last_value,
        };
        match self.verdict(local, seen, headroom) {
            Verdict::Ahead | Verdict::Unknown => Ok(Some(row)),
            Verdict::Unfit(misfit) => {
                self.misfit(local, misfit).warn();
                Ok(Some(row))
            }
            Verdict::Behind(target) => {
                // nextval() takes a RowExclusiveLock and keeps it until its transaction ends. One at a time: whoever waits
                // for this one may have used another.
                let done = Relation::while_locked(local.id.into(), Lock::CreateTrigger, || {
                    let before = positions(std::slice::from_ref(local))?;
                    let before = before.get(&local.id).copied().unwrap_or(seen);
                    let is_behind = local.range.is_short_of(target.position, before);
                    if is_behind {
                        local.set(target.position)?;
                    }
                    Ok::<_, Error>((before, is_behind))
                });
                let Some(done) = done else {
                    return Ok(None);
                };
                let (before, is_moved) = done?;
                row.old_value = before.last_value;
                row.new_value = if is_moved {
                    target.position.last_value
                } else {
                    before.last_value
                };
                if let Some(room) = target.cut_to {
                    let sequence = local.shown.clone();
                    Error::SequenceShortOfRoom {
                        sequence,
                        room,
                        headroom,
                    }
                    .warn();
                }
                Ok(Some(row))
            }
        }
    }

    pub(super) fn misfit(&self, local: &LocalSequence, misfit: Misfit) -> Error {
        let sequence = local.shown.clone();
        match misfit {
            Misfit::OutOfRange => Error::SequenceOutOfRange {
                sequence,
                value: self.there.position.map_or(0, |there| there.last_value),
                min: local.range.min,
                max: local.range.max,
            },
            Misfit::OtherDirection => Error::SequenceOtherDirection {
                sequence,
                increment: self.there.increment,
            },
        }
    }

    /// It should be here.
    pub(super) fn is_missing(&self) -> bool {
        self.here.is_none() && self.there.is_needed
    }
}

/// Before the first is set, for that cannot be taken back.
fn check_rights(followers: &[Follower], headroom: i64) -> Result<(), Error> {
    let refused: Vec<&LocalSequence> = followers
        .iter()
        .filter_map(|one| {
            let (local, here) = one.here.as_ref()?;
            let is_behind = matches!(one.verdict(local, *here, headroom), Verdict::Behind(_));
            (is_behind && !local.may_set).then_some(local)
        })
        .collect();
    let Some(first) = refused.first() else {
        return Ok(());
    };
    let named: Vec<&str> = refused
        .iter()
        .take(NAMED)
        .map(|one| one.shown.as_str())
        .collect();
    let role = spi::read("select current_user::pg_catalog.text", &[], |row| {
        spi::required::<String>(row, 1)
    })?;
    Err(Error::MayNotSetSequence {
        sequence: first.shown.clone(),
        others: refused.len() - 1,
        grant: format!(
            "GRANT UPDATE ON SEQUENCE {} TO {};",
            named.join(", "),
            identifier(&role.concat())
        ),
    })
}

fn warn_of_missing(followers: &[Follower]) {
    let missing: Vec<&PublisherSequence> = followers
        .iter()
        .filter(|one| one.is_missing())
        .map(|one| &one.there)
        .collect();
    if !missing.is_empty() {
        Error::SequencesMissing {
            names: named(&missing),
            create: definitions(&missing),
        }
        .warn();
    }
}

fn warn_of_unread(followers: &[Follower]) {
    let unread: Vec<&PublisherSequence> = followers
        .iter()
        .filter(|one| one.here.is_some() && one.there.position.is_none())
        .map(|one| &one.there)
        .collect();
    if !unread.is_empty() {
        Error::SequencesUnread {
            names: named(&unread),
            grant: grant(&unread),
        }
        .warn();
    }
}

/// For a sentence. A name with control characters could become something else on a terminal.
fn named(sequences: &[&PublisherSequence]) -> String {
    let names: Vec<String> = sequences
        .iter()
        .take(NAMED)
        .map(|one| one.shown())
        .collect();
    match sequences.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// What makes them here.
pub(super) fn definitions(sequences: &[&PublisherSequence]) -> String {
    let statements = sequences.iter().take(NAMED);
    let statements: Vec<String> = statements.map(|one| one.definition()).collect();
    statements.join("\n")
}

/// What makes them readable there.
pub(super) fn grant(sequences: &[&PublisherSequence]) -> String {
    let mut schemas: Vec<&str> = sequences.iter().map(|one| one.schema.as_str()).collect();
    schemas.sort_unstable();
    schemas.dedup();
    let schemas: Vec<String> = schemas.into_iter().map(identifier).collect();
    let schemas = schemas.join(", ");
    format!(
        "On the publisher, to the role of the connection string: GRANT USAGE ON SCHEMA {schemas} TO …; \
         GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schemas} TO …;"
    )
}
