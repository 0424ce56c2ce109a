//! What the watcher knows, and how it lays it out.

use super::{Watcher, address, key, patience, publisher};
use crate::pg::board::{self, Part};
use crate::subscription::cause::Cause;
use crate::subscription::known::{AbsentTable, Known, KnownSubscription, KnownTables, size_key};
use crate::subscription::provider::Subscription;
use crate::subscription::publisher::{Catalog, Conversation, PublishedTable, epoch};
use crate::subscription::status;
use crate::watch::copy::Key;
use crate::watch::sample::UnreadyTable;
use pgrx::PgLogLevel;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use std::collections::HashMap;
use std::time::Instant;

impl Watcher {
    /// Lays out what is new. Outside of a transaction.
    pub(crate) fn publish(&mut self) {
        if !self.has_news || self.is_worth_waiting(Instant::now()) {
            return;
        }
        (self.has_news, self.waiting_since) = (false, None);
        let known = self.learn();
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

    /// What was found is laid out.
    pub(crate) fn is_published(&self) -> bool {
        !self.has_news
    }

    /// Publishers that have answered before are about to answer again.
    fn is_worth_waiting(&mut self, now: Instant) -> bool {
        let mut conversations = self.conversations.values();
        if !conversations.any(Conversation::is_about_to_tell) {
            return false;
        }
        now < *self.waiting_since.get_or_insert(now) + patience()
    }

    /// What is known now.
    pub(crate) fn learn(&mut self) -> Known {
        self.diagnoses.clear();
        let places = 0..self.sample.subscriptions.len();
        Known {
            sampled_at: self.sampled_at,
            subscriptions: places.map(|place| self.know(place)).collect(),
            hazards: self.hazards().unwrap_or_default(),
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
            progress: self.progress.get(&key).cloned(),
            tables_without_identity: self.without_identity.get(&key).cloned().unwrap_or_default(),
            provider: subscription.provider.clone(),
            id: subscription.id,
            publisher: conversation.and_then(|one| publisher(subscription, one)),
            is_unreachable: conversation.is_some_and(Conversation::is_failing),
            apart_since: self.apart.get(&key).copied(),
            errors_when_enabled: self.errors.get(&key).copied(),
            is_ahead: self.ahead.contains(&key),
            // Of interest while nothing else knows the number; with many tables it takes its time.
            tables_published: catalog.filter(|_| subscription.initial_code.is_some()).map(
                |catalog| {
                    let tables = catalog.tables_of(&subscription.publications);
                    i32::try_from(tables.count()).unwrap_or(i32::MAX)
                },
            ),
            generated_tables: self.generated_tables(subscription),
            publications_missing: conversation
                .and_then(|talk| Some(missing(subscription, talk, talk.catalog()?)))
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
        let copied = catalog.filter(|_| subscription.is_copying());
        known.copy = copied.and_then(|catalog| {
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
        let now = epoch();
        let testimony = self.witness.testimony(subscription, now);
        let status = status::status(subscription, Some(&known), &testimony, now);
        let state = status.state;
        known.state = state.to_owned();
        self.diagnoses.push(status.diagnosis);
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

    /// On whose rows pglogical will crash.
    fn generated_tables(&self, subscription: &Subscription) -> Vec<String> {
        let hazards = self
            .hazards
            .found()
            .filter(|one| one.cause == Cause::GeneratedColumnCrash && one.is_of(subscription));
        hazards.filter_map(|one| one.object.clone()).collect()
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

/// The publications that the publisher does not have.
fn missing(
    subscription: &Subscription,
    conversation: &Conversation,
    catalog: &Catalog,
) -> Vec<String> {
    let publications = subscription.publications.iter();
    publications
        .filter(|one| !catalog.publications.contains(one))
        .filter(|one| conversation.was_asked_for_publication(one))
        .cloned()
        .collect()
}
