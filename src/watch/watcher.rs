//! Looks at the subscriptions of the database each `watch_interval`, keeps up the conversations with their publishers, and
//! lays out what it has found for sessions to read.

mod knowledge;

use super::copy::{Copies, Key};
use super::hazard::Hazards;
use super::sample::{self, Sample};
use crate::error::Error;
use crate::guc;
use crate::pg::libpq::Interest;
use crate::subscription::finding::Diagnosis;
use crate::subscription::hazard::Hazard;
use crate::subscription::known::{AbsentTable, KnownPublisher};
use crate::subscription::progress::Progress;
use crate::subscription::provider::{self, Subscription};
use crate::subscription::publisher::{Conversation, Interests, PublishedTable, epoch};
use crate::subscription::status;
use crate::subscription::witness::Witness;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

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
    /// What has moved.
    progress: HashMap<Key, Progress>,
    /// Tables that a worker which stands still looks through for each row.
    without_identity: HashMap<Key, Vec<String>>,
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
    /// What was seen of the workers.
    witness: Witness,
    hazards: Hazards,
    has_looked_for_hazards: bool,
    /// Of the subscriptions, in their order, as the board tells of them.
    diagnoses: Vec<Diagnosis>,
    /// What the board says is not what is known now.
    has_news: bool,
    /// Since when that waits for the word of publishers.
    waiting_since: Option<Instant>,
    /// It was said that there is no room for it.
    has_complained: bool,
}

impl Watcher {
    /// When something has to be done at the latest.
    pub(crate) fn next_time(&self, now: Instant) -> Instant {
        let conversations = self.conversations.values().map(Conversation::next_time);
        let publish = self.waiting_since.map(|since| since + patience());
        conversations
            .chain([self.next_look(now)])
            .chain(publish)
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

    /// Those that it saw when it last looked.
    pub(crate) fn subscriptions(&self) -> &[Subscription] {
        &self.sample.subscriptions
    }

    /// Reads the catalogs. In a transaction.
    pub(crate) fn look(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        self.last_look = Some(now);
        // Taken before anything can fail: what fails is tried again at its time, not at once.
        self.is_absent_stale |= std::mem::take(&mut self.has_new_catalog);
        self.sample = Sample::take(&self.sample)?;
        self.sampled_at = epoch();
        self.copies.look(&self.sample.unready, self.sampled_at);
        self.note_apart();
        self.note_errors();
        self.note_progress();
        self.forget();
        self.look_closer()?;
        let subscribed = self.sample.subscriptions.iter();
        let subscribed: Vec<_> = subscribed
            .map(|one| (key(one), one.tables_total, one.publications.clone()))
            .collect();
        if subscribed != self.subscribed {
            // Perhaps because the publisher publishes something else now.
            for conversation in self.conversations.values_mut() {
                conversation.ask_catalog(now);
            }
        }
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
        let mut has_catalog = false;
        for conversation in self.conversations.values_mut() {
            let is_ready = conversation.socket().is_some() && {
                place += 1;
                ready.contains(&(place - 1))
            };
            conversation.advance(is_ready, now);
            let news = conversation.take_news();
            self.has_news |= news.any;
            self.has_new_catalog |= news.catalog;
            has_catalog |= news.catalog;
        }
        if has_catalog {
            self.tell_hazards();
        }
    }

    /// What publishers have said anew, for those who look for hazards.
    fn tell_hazards(&mut self) {
        for subscription in &self.sample.subscriptions {
            let conversation = self.conversations.get(&address(subscription));
            if let Some(catalog) = conversation.and_then(Conversation::catalog) {
                self.hazards.hear(subscription, catalog);
            }
        }
    }

    pub(crate) fn is_due_for_hazards(&self) -> bool {
        let subscriptions = &self.sample.subscriptions;
        self.hazards.is_due(subscriptions, Instant::now())
    }

    /// Looks for what will go wrong later. In a transaction of its own, after [`Watcher::look`].
    pub(crate) fn look_for_hazards(&mut self) -> Result<(), Error> {
        self.has_news = true;
        self.has_looked_for_hazards = true;
        self.hazards.look(&self.sample.subscriptions)
    }

    /// `None`: nobody has looked yet.
    pub(crate) fn hazards(&self) -> Option<Vec<Hazard>> {
        let found = self.hazards.found().cloned();
        self.has_looked_for_hazards.then(|| found.collect())
    }

    /// What was seen of the workers.
    pub(crate) fn set_witness(&mut self, witness: Witness) {
        self.witness = witness;
    }

    /// The subscriptions, each with its diagnosis when something was last laid out.
    pub(crate) fn diagnoses(&self) -> impl Iterator<Item = (&Subscription, &Diagnosis)> {
        self.sample.subscriptions.iter().zip(&self.diagnoses)
    }

    /// Every publisher has answered, or will not.
    pub(crate) fn has_heard_all(&self) -> bool {
        let mut conversations = self.conversations.values();
        conversations
            .all(|one| one.is_failing() || one.facts().is_some() && one.catalog().is_some())
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

    fn note_progress(&mut self) {
        let mut progress = HashMap::new();
        // One that is disabled has no progress to make.
        for one in self.sample.subscriptions.iter().filter(|one| one.enabled) {
            let conversation = self.conversations.get(&address(one));
            let publisher = conversation.and_then(|talk| publisher(one, talk));
            let last = self.progress.get(&key(one));
            let folded = Progress::fold(last, one, publisher.as_ref(), self.sampled_at);
            progress.insert(key(one), folded);
        }
        self.progress = progress;
    }

    /// Asks what a worker does that is at work and gets nowhere.
    fn look_closer(&mut self) -> Result<(), Error> {
        let long_ago = self.sampled_at - guc::stall_timeout().as_secs_f64() / 2.0;
        let mut found = HashMap::new();
        for one in &self.sample.subscriptions {
            let Some(progress) = self.progress.get(&key(one)) else {
                continue;
            };
            let is_stuck = progress.busy_since.is_some_and(|since| since <= long_ago)
                && progress.still_since() <= long_ago;
            // pglogical does not replicate such tables.
            if let Some(pid) = progress.worker_pid.filter(|_| is_stuck)
                && one.provider == "native"
            {
                found.insert(key(one), sample::tables_without_identity(pid)?);
            }
        }
        self.without_identity = found;
        Ok(())
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
                let described = self.hazards.questions(subscription);
                interests.described.extend(described.iter().cloned());
            }
        }
        self.conversations
            .retain(|address, _| wanted.contains_key(address));
        for (address, mut interests) in wanted {
            interests.publications.sort_unstable();
            interests.publications.dedup();
            interests.described.sort_unstable();
            interests.described.dedup();
            let conversation = self.conversations.entry(address).or_insert_with_key(|key| {
                let question = provider::named(&key.0).catalog_question();
                Conversation::new(&key.1, key.2, question, now)
            });
            conversation.set_interests(interests, now);
        }
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

/// What a look has found waits so long for the answers of publishers that it has led to questions for, and is laid out with
/// them: diagnosing takes as long as looking.
fn patience() -> Duration {
    const LONGEST: Duration = Duration::from_millis(100);
    guc::watch_interval().min(LONGEST)
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
    let slot = subscription.slot_name.as_deref();
    if slot.is_some_and(|slot| !conversation.was_asked_for_slot(slot)) {
        return None;
    }
    let facts = &heard.answer;
    let mut slots = facts.slots.iter();
    let mut known = KnownPublisher {
        asked_at: heard.asked_at,
        clock_ahead: heard.clock_ahead,
        lsn: facts.lsn,
        max_wal_size: facts.max_wal_size,
        max_slot_wal_keep_size: facts.max_slot_wal_keep_size,
        output_plugin_libraries: facts.output_plugin_libraries.clone(),
        oldest_transaction_at: facts.oldest_transaction_at.map(|at| at - heard.clock_ahead),
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
