//! Looks at the subscriptions of the database each `watch_interval`, keeps up the conversations with their publishers, and
//! lays out what it has found for sessions to read.

use super::copy::{Copies, Key};
use super::sample::{self, Sample, UnreadyTable};
use crate::error::Error;
use crate::guc;
use crate::pg::board::{self, Part};
use crate::pg::libpq::Interest;
use crate::subscription::known::{
    AbsentTable, Known, KnownPublisher, KnownSubscription, KnownTables, size_key,
};
use crate::subscription::provider::{self, Subscription};
use crate::subscription::publisher::{Catalog, Conversation, Interests, PublishedTable, epoch};
use crate::subscription::status;
use pgrx::PgLogLevel;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

/// Subscriptions that connect alike are asked for together.
type Address = (String, String, bool);

#[derive(Default)]
pub(crate) struct Watcher {
    last_look: Option<Instant>,
    sample: Sample,
    conversations: BTreeMap<Address, Conversation>,
    copies: Copies,
    /// The state of each subscription, and since when, where it was seen to begin.
    states: HashMap<Key, (String, Option<f64>)>,
    /// Subscriptions without an apply worker that hears from the publisher, and since when.
    apart: HashMap<Key, f64>,
    /// Errors that were counted of each subscription when it was first seen enabled with `disable_on_error`.
    errors: HashMap<Key, i64>,
    /// Those that are.
    armed: HashSet<Key>,
    /// Subscriptions that have applied more than their publisher has.
    ahead: HashSet<Key>,
    /// What the subscriptions subscribe to, when `absent` was made.
    subscribed: Vec<(Key, i32, Vec<String>)>,
    /// Tables that the publisher has and the subscription does not know.
    absent: Vec<AbsentTable>,
    /// A publisher has told what it publishes: reason for a look at once, and for finding out anew what is absent.
    has_new_catalog: bool,
    is_absent_stale: bool,
    sampled_at: f64,
    /// Of the look that the board tells of.
    published_at: f64,
    /// What the board says is not what is known now.
    has_news: bool,
    /// It was said that there is no room for it.
    has_complained: bool,
}

impl Watcher {
    /// When something has to be done at the latest.
    pub(crate) fn next_time(&self, now: Instant) -> Instant {
        let conversations = self.conversations.values().map(Conversation::next_time);
        conversations
            .chain([self.next_look(now)])
            .min()
            .unwrap_or(now)
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next_look(now) <= now
    }

    fn next_look(&self, now: Instant) -> Instant {
        match self.last_look {
            Some(last) if !self.has_new_catalog => last + guc::watch_interval(),
            _ => now,
        }
    }

    /// The sockets that conversations wait for.
    pub(crate) fn sockets(&self) -> Vec<(i32, Interest)> {
        let conversations = self.conversations.values();
        conversations.filter_map(Conversation::socket).collect()
    }

    /// Reads the catalogs. In a transaction.
    pub(crate) fn look(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        self.last_look = Some(now);
        // Taken before anything can fail: what fails is tried again at its time, not at once.
        self.is_absent_stale |= std::mem::take(&mut self.has_new_catalog);
        self.sample = Sample::take()?;
        self.sampled_at = epoch();
        self.copies.look(&self.sample.unready, self.sampled_at);
        self.note_apart();
        self.note_errors();
        self.forget();
        let subscribed = self.sample.subscriptions.iter();
        let subscribed: Vec<_> = subscribed
            .map(|one| (key(one), one.tables_total, one.publications.clone()))
            .collect();
        if self.is_absent_stale || subscribed != self.subscribed {
            self.absent = self.find_absent(&sample::subscribed()?);
            self.subscribed = subscribed;
            self.is_absent_stale = false;
        }
        self.meet(now);
        self.has_news = true;
        Ok(())
    }

    /// Goes on with the conversations whose sockets are ready, or whose time has come. `ready`: places in what
    /// [`Watcher::sockets`] gave last.
    pub(crate) fn advance(&mut self, ready: &[usize]) {
        let now = Instant::now();
        let mut place = 0;
        for conversation in self.conversations.values_mut() {
            let is_ready = conversation.socket().is_some() && {
                place += 1;
                ready.contains(&(place - 1))
            };
            conversation.advance(is_ready, now);
            let news = conversation.take_news();
            self.has_news |= news.any;
            self.has_new_catalog |= news.catalog;
        }
    }

    /// Lays out what is new. Outside of a transaction.
    pub(crate) fn publish(&mut self) {
        if !std::mem::take(&mut self.has_news) {
            return;
        }
        let known: Vec<KnownSubscription> = (0..self.sample.subscriptions.len())
            .map(|place| self.know(place))
            .collect();
        let known = Known {
            sampled_at: self.sampled_at,
            subscriptions: known,
        };
        let tables = KnownTables {
            sizes: self.sizes(),
            absent: self
                .absent
                .iter()
                .filter(|one| self.is_told(one))
                .cloned()
                .collect(),
            rates: self.copies.rates(),
        };
        self.published_at = self.sampled_at;
        let is_laid_out = [
            (Part::Subscriptions, serde_json::to_vec(&known)),
            (Part::Tables, serde_json::to_vec(&tables)),
        ]
        .into_iter()
        .all(|(part, text)| text.is_ok_and(|text| board::publish(part, &text)));
        if !is_laid_out && !std::mem::replace(&mut self.has_complained, true) {
            complain();
        }
    }

    /// The publisher says so, and answers at present.
    fn is_told(&self, table: &AbsentTable) -> bool {
        let mut subscriptions = self.sample.subscriptions.iter();
        let subscription =
            subscriptions.find(|one| (&one.provider, one.id) == (&table.provider, table.id));
        subscription
            .and_then(|one| self.conversations.get(&address(one)))
            .is_some_and(|one| one.catalog().is_some())
    }

    fn note_errors(&mut self) {
        let subscriptions = &self.sample.subscriptions;
        self.errors
            .retain(|known, _| subscriptions.iter().any(|one| key(one) == *known));
        // From then on the first error disables it.
        for one in subscriptions.iter().filter(|one| one.enabled) {
            let known = self.errors.entry(key(one)).or_insert(0);
            if !one.disable_on_error || !self.armed.contains(&key(one)) {
                *known = one.errors();
            }
        }
        let armed = subscriptions
            .iter()
            .filter(|one| one.enabled && one.disable_on_error);
        self.armed = armed.map(key).collect();
    }

    fn note_apart(&mut self) {
        let apart = self
            .sample
            .subscriptions
            .iter()
            .filter(|one| one.is_apart());
        let apart = apart.map(|one| {
            let since = self.apart.get(&key(one)).copied();
            (key(one), since.unwrap_or(self.sampled_at))
        });
        self.apart = apart.collect();
    }

    /// Forgets what is over.
    fn forget(&mut self) {
        let subscriptions = &self.sample.subscriptions;
        let copying = subscriptions.iter().filter(|one| one.is_copying());
        self.copies.keep(&copying.map(key).collect());
        let present: HashSet<Key> = subscriptions.iter().map(key).collect();
        self.states.retain(|key, _| present.contains(key));
        self.ahead.retain(|key| present.contains(key));
    }

    /// Sees to it that there is one conversation for each address, and none else.
    fn meet(&mut self, now: Instant) {
        let mut wanted: BTreeMap<Address, Interests> = BTreeMap::new();
        if guc::probe_publisher() {
            for subscription in &self.sample.subscriptions {
                let interests = wanted.entry(address(subscription)).or_default();
                interests.slots.extend(subscription.slot_name.clone());
                let publications = subscription.publications.iter().cloned();
                interests.publications.extend(publications);
                interests.sizes |= subscription.is_copying();
            }
        }
        self.conversations
            .retain(|address, _| wanted.contains_key(address));
        for (address, mut interests) in wanted {
            interests.publications.sort_unstable();
            interests.publications.dedup();
            let conversation = self.conversations.entry(address).or_insert_with_key(|key| {
                let question = provider::named(&key.0).catalog_question();
                Conversation::new(&key.1, key.2, question, now)
            });
            conversation.set_interests(interests, now);
        }
    }

    /// Whether what is applied is beyond the publisher's WAL. That can be told when it was read before the publisher was
    /// asked where its WAL ends; until then holds what was told last.
    fn note_ahead(&mut self, place: usize, key: &Key) {
        let subscription = &self.sample.subscriptions[place];
        let conversation = self.conversations.get(&address(subscription));
        match conversation.and_then(Conversation::facts) {
            Some(heard) if heard.asked_at <= self.sampled_at => {}
            Some(heard) if subscription.applied_lsn > Some(heard.answer.lsn) => {
                self.ahead.insert(key.clone());
            }
            _ => {
                self.ahead.remove(key);
            }
        }
    }

    fn know(&mut self, place: usize) -> KnownSubscription {
        let key = key(&self.sample.subscriptions[place]);
        self.note_ahead(place, &key);
        let subscription = &self.sample.subscriptions[place];
        let conversation = self.conversations.get(&address(subscription));
        let catalog = conversation.and_then(Conversation::catalog);
        let mut known = KnownSubscription {
            provider: subscription.provider.clone(),
            id: subscription.id,
            publisher: conversation.and_then(|one| publisher(subscription, one)),
            is_unreachable: conversation.is_some_and(Conversation::is_failing),
            apart_since: self.apart.get(&key).copied(),
            errors_when_enabled: self.errors.get(&key).copied(),
            is_ahead: self.ahead.contains(&key),
            tables_published: catalog.map(|catalog| {
                let tables = catalog.tables_of(&subscription.publications);
                i32::try_from(tables.count()).unwrap_or(i32::MAX)
            }),
            publications_missing: catalog
                .map(|catalog| missing(subscription, catalog))
                .unwrap_or_default(),
            ..KnownSubscription::default()
        };
        if let Some((message, at)) = conversation.and_then(Conversation::error) {
            known.error = Some(message.clone());
            known.error_at = Some(*at);
        }
        let absent = self.absent.iter().filter(|_| catalog.is_some());
        let absent = absent.filter(|table| (table.provider.as_str(), table.id) == (&key.0, key.1));
        known.tables_absent = i32::try_from(absent.count()).unwrap_or(i32::MAX);
        known.copy = catalog.and_then(|catalog| {
            let published: Vec<&PublishedTable> =
                catalog.tables_of(&subscription.publications).collect();
            let mut unready: Vec<&UnreadyTable> = self.sample.unready_of(subscription).collect();
            let untold;
            if subscription.initial_code.is_some() {
                unready.retain(|table| table.pid.is_some());
                untold = self.copies.not_seen_to_end(&key, &published, &unready);
                unready = untold.iter().collect();
            }
            let copies = &mut self.copies;
            copies.of_subscription(&key, &unready, &published, self.sampled_at)
        });
        let state = status::status(subscription, Some(&known), epoch()).state;
        known.state = state.to_owned();
        known.since = match self.states.get(&key) {
            Some((last, since)) if last == state => *since,
            // It began before the worker did.
            None if self.published_at == 0.0 => None,
            // As the views say it until they hear of it from here.
            _ => Some(self.published_at),
        };
        self.states.insert(key, (known.state.clone(), known.since));
        known
    }

    /// Of the tables that are not ready.
    fn sizes(&self) -> HashMap<String, (Option<i64>, Option<f64>)> {
        let mut found = HashMap::new();
        let copying = self.sample.subscriptions.iter();
        for subscription in copying.filter(|one| one.is_copying()) {
            let published: HashMap<(&str, &str), &PublishedTable> = self
                .published(subscription)
                .map(|table| {
                    (
                        (table.schema_name.as_str(), table.table_name.as_str()),
                        table,
                    )
                })
                .collect();
            for table in self.sample.unready_of(subscription) {
                let name = (table.schema_name.as_str(), table.table_name.as_str());
                if let (Some(relation), Some(table)) = (table.relation, published.get(&name)) {
                    let key = size_key(&subscription.provider, subscription.id, relation);
                    found.insert(key, (table.bytes, table.rows));
                }
            }
        }
        found
    }

    /// Tables that a publisher has, and that the subscription does not know.
    fn find_absent(&self, subscribed: &HashSet<(String, u32, String, String)>) -> Vec<AbsentTable> {
        let mut absent = Vec::new();
        for subscription in &self.sample.subscriptions {
            let unknown = self.published(subscription).filter(|table| {
                let provider = subscription.provider.clone();
                let (schema, name) = (table.schema_name.clone(), table.table_name.clone());
                !subscribed.contains(&(provider, subscription.id, schema, name))
            });
            absent.extend(unknown.map(|table| AbsentTable {
                provider: subscription.provider.clone(),
                id: subscription.id,
                schema_name: table.schema_name.clone(),
                table_name: table.table_name.clone(),
            }));
        }
        absent
    }

    /// What the publisher publishes for a subscription, as far as it has told.
    fn published(&self, subscription: &Subscription) -> impl Iterator<Item = &PublishedTable> {
        let conversation = self.conversations.get(&address(subscription));
        let catalog = conversation.and_then(Conversation::catalog);
        let publications = subscription.publications.clone();
        catalog
            .into_iter()
            .flat_map(move |catalog| catalog.tables_of(&publications).collect::<Vec<_>>())
    }
}

fn complain() {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
        "replwarden: there is no shared memory for what publishers say",
        "replwarden",
    )
    .set_detail("Lag, slots and sizes are not shown.")
    .set_hint("Look at the space in /dev/shm, and at dynamic_shared_memory_type.")
    .report(PgLogLevel::WARNING);
}

fn key(subscription: &Subscription) -> Key {
    (subscription.provider.clone(), subscription.id)
}

fn address(subscription: &Subscription) -> Address {
    (
        subscription.provider.clone(),
        subscription.conninfo.clone(),
        subscription.must_use_password,
    )
}

/// What the publisher has said that concerns a subscription.
fn publisher(subscription: &Subscription, conversation: &Conversation) -> Option<KnownPublisher> {
    let heard = conversation.facts()?;
    let facts = &heard.answer;
    let mut slots = facts.slots.iter();
    let mut known = KnownPublisher {
        asked_at: heard.asked_at,
        clock_ahead: heard.clock_ahead,
        lsn: facts.lsn,
        max_wal_size: facts.max_wal_size,
        max_slot_wal_keep_size: facts.max_slot_wal_keep_size,
        slot: slots
            .find(|slot| Some(&slot.name) == subscription.slot_name.as_ref())
            .cloned(),
        slot_used_since: subscription
            .slot_name
            .as_ref()
            .and_then(|slot| conversation.slot_used_since(slot)),
        level_at: None,
    };
    known.level_at = status::applied_lsn(subscription, Some(&known))
        .and_then(|applied| conversation.last_at_or_before(applied));
    Some(known)
}

/// The publications that the publisher does not have.
fn missing(subscription: &Subscription, catalog: &Catalog) -> Vec<String> {
    let publications = subscription.publications.iter();
    publications
        .filter(|one| !catalog.publications.contains(one))
        .cloned()
        .collect()
}
