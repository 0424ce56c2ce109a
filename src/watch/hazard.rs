//! What will break later on this subscriber, seen while nothing is broken yet.

mod foreign_key;
mod generated;
mod loss;
mod sequence;

use super::copy::Key;
use crate::error::Error;
use crate::guc;
use crate::pg::{catalog_change, session, spi};
use crate::subscription::cause::Cause;
use crate::subscription::hazard::Hazard;
use crate::subscription::provider::Subscription;
use crate::subscription::publisher::{Catalog, DescribedTable};
pub(crate) use generated::Suspect;
pub(crate) use loss::KeylessTable;
use sequence::Sequences;
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::time::{Duration, Instant};

/// Without any sign of a change it is looked at all so many looks of the watcher, but at least each minute.
const LOOKS: u32 = 12;
const INTERVAL: Duration = Duration::from_secs(60);
/// The part of its time that this may take at the most: one of so many.
const SHARE: u32 = 500;
/// So many tables of a subscription are named for one cause. The rest comes up when these are mended.
const NAMED: usize = 20;

/// Queries over catalogs of 10,000 tables are dear enough for a compilation that takes a hundred times as long as they do,
/// and for processes that others need.
const SETTINGS: [(&CStr, &CStr); 3] = [
    session::SAFE_SEARCH_PATH,
    (c"jit", c"off"),
    (c"max_parallel_workers_per_gather", c"0"),
];

/// What the publisher of a subscription has said. It holds until it says something else: tables are no less dangerous while
/// it is away.
#[derive(Default, PartialEq)]
pub(crate) struct Told {
    /// Schemas and names. pglogical only, which may replicate what its catalogs here do not list.
    published: HashSet<(String, String)>,
    /// By schema and name.
    described: HashMap<(String, String), DescribedTable>,
}

impl Told {
    /// The columns that are sent, by schema and name of their tables.
    pub(crate) fn of_columns(sent: HashMap<(String, String), Vec<String>>) -> Self {
        let described = sent
            .into_iter()
            .map(|((schema_name, table_name), columns)| {
                let name = (schema_name.clone(), table_name.clone());
                let table = DescribedTable {
                    schema_name,
                    table_name,
                    columns,
                    key: Vec::new(),
                    publications: Vec::new(),
                };
                (name, table)
            });
        Self {
            published: HashSet::new(),
            described: described.collect(),
        }
    }
}

/// When something was done last, and how long it took.
#[derive(Default)]
struct Pace {
    last: Option<(Instant, Duration)>,
}

impl Pace {
    /// After `interval`, but never so often that it takes more than its share of the time.
    fn is_due(&self, interval: Duration, now: Instant) -> bool {
        self.last
            .is_none_or(|(last, cost)| now >= last + interval.max(cost.saturating_mul(SHARE)))
    }

    /// Noted before anything can fail: what fails is tried again at its time, not at once.
    fn begin(&mut self, now: Instant) {
        self.last = Some((now, Duration::ZERO));
    }

    fn done(&mut self, began: Instant) {
        self.last = Some((began, began.elapsed()));
    }
}

/// What was found, and what has to be remembered from one look to the next.
#[derive(Default)]
pub(crate) struct Hazards {
    told: HashMap<Key, Told>,
    catalogs: Pace,
    sequence_pace: Pace,
    /// When the catalogs were looked at: the changes that had been counted, and the subscriptions with their tables.
    looked_at: (u64, Vec<(Key, i32)>),
    has_news: bool,
    tables: Vec<Hazard>,
    sequences: Sequences,
    /// What publishers have to be asked for.
    questions: HashMap<Key, Vec<(String, String)>>,
}

impl Hazards {
    /// Something has changed, or has not been looked at for long.
    pub(crate) fn is_due(&self, subscriptions: &[Subscription], now: Instant) -> bool {
        self.are_catalogs_due(subscriptions, now) || self.sequence_pace.is_due(interval(), now)
    }

    fn are_catalogs_due(&self, subscriptions: &[Subscription], now: Instant) -> bool {
        let (changes, known) = &self.looked_at;
        let is_changed = self.has_news
            || *changes != catalog_change::relations()
            || *known != fingerprint(subscriptions);
        let least = if is_changed {
            Duration::ZERO
        } else {
            interval()
        };
        self.catalogs.is_due(least, now)
    }

    /// Takes up what the publisher of a subscription has said anew.
    pub(crate) fn hear(&mut self, subscription: &Subscription, catalog: &Catalog) {
        let mut told = Told::default();
        if subscription.provider == "pglogical" {
            let tables = catalog.tables_of(&subscription.publications);
            told.published = tables
                .map(|table| (table.schema_name.clone(), table.table_name.clone()))
                .collect();
        }
        let described = catalog.described.iter().filter(|table| {
            let mut publications = table.publications.iter();
            publications.any(|one| subscription.publications.contains(one))
        });
        told.described = described
            .map(|table| {
                let name = (table.schema_name.clone(), table.table_name.clone());
                (name, table.clone())
            })
            .collect();
        let key = key(subscription);
        if self.told.get(&key) != Some(&told) {
            self.told.insert(key, told);
            self.has_news = true;
        }
    }

    /// The tables that the publisher of a subscription is to describe, by schema and name.
    pub(crate) fn questions(&self, subscription: &Subscription) -> &[(String, String)] {
        self.questions
            .get(&key(subscription))
            .map_or(&[], Vec::as_slice)
    }

    /// What was found by the last look.
    pub(crate) fn found(&self) -> impl Iterator<Item = &Hazard> {
        self.tables.iter().chain(self.sequences.found())
    }

    /// Looks at what is due, for these subscriptions of the database. In a transaction of its own, with a `lock_timeout`:
    /// locks on the tables of some sequences are kept until it ends. As a superuser, for it reads tables.
    pub(crate) fn look(&mut self, subscriptions: &[Subscription]) -> Result<(), Error> {
        let began = Instant::now();
        if session::is_in_recovery() {
            *self = Self::default();
            self.catalogs.begin(began);
            self.sequence_pace.begin(began);
            return Ok(());
        }
        self.told
            .retain(|known, _| subscriptions.iter().any(|one| key(one) == *known));
        session::with_settings(&SETTINGS, || {
            if self.are_catalogs_due(subscriptions, began) {
                self.catalogs.begin(began);
                self.looked_at = (catalog_change::relations(), fingerprint(subscriptions));
                self.has_news = false;
                self.look_at_tables(subscriptions)?;
                self.catalogs.done(began);
            }
            let began = Instant::now();
            if self.sequence_pace.is_due(interval(), began) {
                self.sequence_pace.begin(began);
                self.sequences.look(subscriptions, &self.told)?;
                self.sequence_pace.done(began);
            }
            Ok(())
        })
    }

    fn look_at_tables(&mut self, subscriptions: &[Subscription]) -> Result<(), Error> {
        let of = |provider: &str| -> Vec<&Subscription> {
            let subscriptions = subscriptions.iter();
            subscriptions
                .filter(|one| one.provider == provider)
                .collect()
        };
        let mut questions = HashMap::new();
        let mut found = Vec::new();
        let native = of("native");
        if !native.is_empty() {
            let tables = loss::keyless_tables()?;
            found.extend(loss::hazards(&tables, &native, &self.told));
            loss::ask(&tables, &native, &mut questions);
        }
        let pglogical = of("pglogical");
        if !pglogical.is_empty() {
            let suspects = generated::suspects()?;
            let (schema, _) = spi::extension()?;
            found.extend(generated::hazards(
                &suspects, &pglogical, &self.told, &schema,
            ));
            generated::ask(&suspects, &pglogical, &self.told, &mut questions);
        }
        let keys = crate::migrate::foreign_key::forgotten()?;
        found.extend(foreign_key::hazards(&keys, subscriptions));
        self.tables = fold(found);
        self.questions = questions;
        Ok(())
    }
}

/// What would crash the workers of a subscription, as far as the subscriber alone knows. In a transaction.
pub(crate) fn crashers(subscription: &Subscription) -> Result<Vec<Hazard>, Error> {
    let mut hazards = Hazards::default();
    hazards.look_at_tables(std::slice::from_ref(subscription))?;
    hazards.tables.retain(|one| one.cause.crashes_workers());
    Ok(hazards.tables)
}

/// The sequences of a subscription that are behind their columns, as far as the subscriber alone knows. In a transaction.
pub(crate) fn sequences_behind(subscription: &Subscription) -> Result<Vec<Hazard>, Error> {
    let (_, owner) = spi::extension()?;
    let mut sequences = Sequences::default();
    session::as_role(owner, || {
        while {
            sequences.look(std::slice::from_ref(subscription), &HashMap::new())?;
            !sequences.is_through()
        } {}
        Ok(sequences.found().to_vec())
    })
}

/// Those of a subscription, existing or not, whose publisher has told all: of `suspects`, which it replicates. `schema`: of this
/// extension.
pub(crate) fn crashers_among(
    suspects: &[Suspect],
    subscription: &Subscription,
    told: Told,
    schema: &str,
) -> Vec<Hazard> {
    let told = HashMap::from([(key(subscription), told)]);
    generated::hazards(suspects, &[subscription], &told, schema)
}

/// What is to be said of a table without an index to find rows by, whose publisher has REPLICA IDENTITY FULL and sends `columns`;
/// `key`: the columns of its primary key there. Gives finding and remedy.
pub(crate) fn loss_of(
    table: &KeylessTable,
    columns: Vec<String>,
    key: Vec<String>,
) -> Option<(String, String)> {
    let described = DescribedTable {
        schema_name: table.schema_name.clone(),
        table_name: table.table_name.clone(),
        columns,
        key,
        publications: Vec::new(),
    };
    let hazard = loss::hazard(&Subscription::default(), table, &described)?;
    Some((hazard.finding, hazard.remedy.unwrap_or_default()))
}

fn interval() -> Duration {
    (guc::watch_interval() * LOOKS).min(INTERVAL)
}

fn key(subscription: &Subscription) -> Key {
    (subscription.provider.clone(), subscription.id)
}

fn fingerprint(subscriptions: &[Subscription]) -> Vec<(Key, i32)> {
    let subscriptions = subscriptions.iter();
    subscriptions
        .map(|one| (key(one), one.tables_total))
        .collect()
}

/// Leaves so many of each subscription and cause that they can be read, and that an event for each does no harm.
fn fold(found: Vec<Hazard>) -> Vec<Hazard> {
    let mut kept: Vec<Hazard> = Vec::new();
    let mut left_out: Vec<(Hazard, usize)> = Vec::new();
    for hazard in found {
        let is_like = |one: &Hazard| {
            one.cause == hazard.cause && (&one.provider, one.id) == (&hazard.provider, hazard.id)
        };
        if kept.iter().filter(|one| is_like(one)).count() < NAMED {
            kept.push(hazard);
        } else if let Some((_, number)) = left_out.iter_mut().find(|(one, _)| is_like(one)) {
            *number += 1;
        } else {
            left_out.push((hazard, 1));
        }
    }
    kept.extend(left_out.into_iter().map(|(hazard, number)| Hazard {
        object: None,
        finding: format!(
            "{number} more tables are in the same danger; they are named when those that are named are mended."
        ),
        evidence: serde_json::json!({ "tables": number }),
        remedy: None,
        ..hazard
    }));
    kept
}

/// Names with control characters could become something else in a comment or on a terminal.
fn is_plain(name: &str) -> bool {
    !name.contains(char::is_control)
}

pub(crate) const RENAME: &str =
    "-- its name holds control characters: rename it before anything else";

/// For a sentence.
fn shown(name: &str) -> String {
    name.chars()
        .map(|one| if one.is_control() { '?' } else { one })
        .collect()
}

/// As in a sentence: `a`, `a and b`, `a, b and 3 more`.
pub(crate) fn listed(names: &[String]) -> String {
    const MOST: usize = 3;
    let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] if names.len() <= MOST => format!("{} and {last}", first.join(", ")),
        _ => format!(
            "{} and {} more",
            names[..MOST - 1].join(", "),
            names.len() - (MOST - 1)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn subscription(provider: &str) -> Subscription {
        Subscription {
            provider: provider.to_owned(),
            id: 7,
            subscription: "sub".to_owned(),
            publications: vec!["pub".to_owned()],
            ..Subscription::default()
        }
    }

    pub(super) fn name(schema: &str, table: &str) -> (String, String) {
        (schema.to_owned(), table.to_owned())
    }

    fn hazard(id: u32, object: usize) -> Hazard {
        let subscription = Subscription {
            id,
            ..subscription("native")
        };
        Hazard::new(
            &subscription,
            Cause::SilentLoss,
            Some(format!("public.t{object}")),
        )
    }

    #[test]
    fn many_tables_of_a_subscription_become_one_hazard_more() {
        let found = (0..25)
            .map(|object| hazard(7, object))
            .chain([hazard(8, 0)]);
        let kept = fold(found.collect());
        assert_eq!(kept.len(), NAMED + 2);
        let rest: Vec<_> = kept.iter().filter(|one| one.object.is_none()).collect();
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].id, 7);
        assert!(rest[0].finding.starts_with("5 more tables"));
    }

    #[test]
    fn takes_no_more_than_its_share_of_the_time() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.is_due(Duration::from_secs(60), now));
        pace.last = Some((now, Duration::from_millis(10)));
        assert!(!pace.is_due(Duration::ZERO, now + Duration::from_secs(4)));
        assert!(pace.is_due(Duration::ZERO, now + Duration::from_secs(5)));
        assert!(!pace.is_due(Duration::from_secs(60), now + Duration::from_secs(59)));
        assert!(pace.is_due(Duration::from_secs(60), now + Duration::from_secs(60)));
    }

    #[test]
    fn what_a_publisher_said_holds_for_the_publications_of_the_subscription() {
        let described = |table: &str, publication: &str| DescribedTable {
            schema_name: "public".to_owned(),
            table_name: table.to_owned(),
            columns: Vec::new(),
            key: Vec::new(),
            publications: vec![publication.to_owned()],
        };
        let catalog = Catalog {
            described: vec![described("a", "pub"), described("b", "other")],
            ..Catalog::default()
        };
        let mut hazards = Hazards::default();
        hazards.hear(&subscription("native"), &catalog);
        let told = &hazards.told[&("native".to_owned(), 7)];
        assert!(told.described.contains_key(&name("public", "a")));
        assert_eq!(told.described.len(), 1);
        assert!(std::mem::take(&mut hazards.has_news));
        hazards.hear(&subscription("native"), &catalog);
        assert!(!hazards.has_news);
    }

    #[test]
    fn names_are_listed_as_in_a_sentence() {
        let names =
            |number: usize| -> Vec<String> { (1..=number).map(|one| format!("t{one}")).collect() };
        assert_eq!(listed(&names(1)), "t1");
        assert_eq!(listed(&names(2)), "t1 and t2");
        assert_eq!(listed(&names(3)), "t1, t2 and t3");
        assert_eq!(listed(&names(5)), "t1, t2 and 3 more");
        assert_eq!(listed(&["a\nb".to_owned()]), "a?b");
    }
}
