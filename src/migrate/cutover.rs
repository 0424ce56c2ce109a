//! `repl_cutover_check()`: whether an application can move from the publisher to this server, and what is in its way.

mod facts;
mod plan;
mod row;
mod schema;
mod sides;
mod stream;

use super::sequence::{self, Follower};
use crate::error::Error;
use crate::guc;
use crate::pg::{background, encoding, session, spi};
use crate::subscription::access;
use crate::subscription::cause::{Cause, Severity};
use crate::subscription::known::Known;
use crate::subscription::provider::Subscription;
use crate::subscription::publisher::{Inquiry, Unheard, epoch};
use crate::subscription::status;
use facts::{Local, Publisher};
use pgrx::prelude::*;
use row::Row;
use std::ffi::{CStr, CString};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use stream::{Condition, Distance};

static NATIVE: LazyLock<CString> =
    LazyLock::new(|| question(include_str!("sql/native_published.sql")));
static PGLOGICAL: LazyLock<CString> =
    LazyLock::new(|| question(include_str!("sql/pglogical_published.sql")));

/// A walsender that waits for WAL tells the subscriber how far it has read, and hears soon that nothing of it is left to be
/// applied.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

fn question(published: &str) -> CString {
    let sql = include_str!("sql/cutover_publisher.sql").replace("{published}", published);
    CString::new(sql).unwrap_or_default()
}

/// `_repl_cutover_check()`
#[pg_extern(sql = false)]
fn repl_cutover_check(subscription: Option<&CStr>) -> String {
    match session::with_safe_search_path(|| rows(subscription)) {
        Ok(rows) => encoding::json(&rows),
        Err(error) => error.raise(),
    }
}

/// What the publisher says.
struct Heard {
    publisher: Publisher,
    followers: Result<Vec<Follower>, String>,
    distance: Distance,
}

/// In the order in which one deals with them.
fn rows(name: Option<&CStr>) -> Result<Vec<Row>, Error> {
    let subscription = access::subscription(name)?;
    // Before anything is looked at with other rights.
    access::must_use_password(&subscription)?;
    let (_, owner) = spi::extension()?;
    let condition = session::as_role(owner, || condition(&subscription))?;
    let heard = match access::publisher_of(&subscription) {
        Ok(mut publisher) => listen(&subscription, &mut publisher)?,
        Err(Error::PublisherUnreachable { message, .. }) => Err(message),
        Err(error) => return Err(error),
    };
    let heard = heard.map_err(|message| {
        let message = message.trim_end_matches('.');
        format!("The publisher does not answer: {}.", row::shown(message))
    });
    let publisher = heard.as_ref().map(|heard| &heard.publisher);
    let local = session::as_role(owner, || local(&subscription, publisher.ok()))?;
    let publisher = publisher.map_err(String::as_str);
    let mut rows = vec![
        stream::subscription(&condition),
        stream::errors(&condition),
        stream::tables(&subscription, &local, publisher),
        schema::rules(&local),
        schema::backfills(&local),
        schema::indexes(&local),
        schema::foreign_keys(&local, publisher),
        schema::triggers(&local, publisher),
        schema::statistics(&local),
        sides::subscriber_writable(&local),
    ];
    match &heard {
        Ok(heard) => {
            rows.push(sides::publisher_writes(&heard.publisher));
            rows.push(stream::lag(&heard.distance));
            rows.push(match &heard.followers {
                Ok(followers) => sides::sequences(&subscription.subscription, followers),
                Err(why) => Row::not_checked("sequences", why),
            });
        }
        Err(why) => {
            let checks = ["publisher_writes", "lag", "sequences"];
            rows.extend(checks.map(|check| Row::not_checked(check, why)));
        }
    }
    rows.push(plan::plan(
        &subscription.provider,
        &subscription.subscription,
        &rows,
    ));
    Ok(rows)
}

/// As `repl_subscriptions` and `repl_diagnose()` have it.
fn condition(subscription: &Subscription) -> Result<Condition, Error> {
    // What a worker that has ceased to look knows is old.
    let known = status::known().filter(|known| {
        epoch() - known.sampled_at <= 3.0 * guc::watch_interval().as_secs_f64() + 5.0
    });
    let mut besides = hazards(subscription, known.as_ref());
    let subscriptions = std::slice::from_ref(subscription);
    let overview = status::overview_of(subscriptions, known, None)?;
    let status = overview.statuses.into_iter().next();
    let status = status.ok_or_else(|| Error::UnknownSubscription {
        name: subscription.subscription.clone(),
        known: Vec::new(),
    })?;
    let explaining = usize::from(status.diagnosis.is_explained);
    let others = status.diagnosis.findings.iter().skip(explaining);
    let others = others.filter(|one| one.severity >= Severity::Warning && is_in_the_way(one.cause));
    besides.extend(others.map(|one| (one.finding.clone(), one.remedy.clone())));
    let cause = status.diagnosis.cause();
    Ok(Condition {
        state: status.state,
        cause: status.cause,
        finding: cause.map(|one| one.finding.clone()),
        remedy: cause.and_then(|one| one.remedy.clone()),
        besides,
        last_error: status
            .last_error
            .zip(status.last_error_at)
            .map(|(error, at)| (error, epoch() - at)),
    })
}

fn hazards(subscription: &Subscription, known: Option<&Known>) -> Vec<(String, Option<String>)> {
    let hazards = known.iter().flat_map(|known| &known.hazards);
    hazards
        .filter(|one| one.is_of(subscription) && is_in_the_way(one.cause))
        .map(|one| (one.finding.clone(), one.remedy.clone()))
        .collect()
}

/// Another check looks for itself; and a slot that keeps WAL goes with the subscription.
fn is_in_the_way(cause: Cause) -> bool {
    !matches!(
        cause,
        Cause::SequenceBehind
            | Cause::TablesNotSubscribed
            | Cause::ForeignKeyDetached
            | Cause::WalRetention
    )
}

/// The inner error is that of the publisher.
fn listen(
    subscription: &Subscription,
    publisher: &mut Inquiry,
) -> Result<Result<Heard, String>, Error> {
    let first = match ask(subscription, publisher) {
        Ok(first) => first,
        Err(unheard) => return Ok(Err(unheard.message)),
    };
    let distance = match wait_applied(subscription, publisher, &first) {
        Ok(distance) => distance,
        Err(unheard) => return Ok(Err(unheard.message)),
    };
    let followers = match sequence::of_publisher(subscription, publisher) {
        Ok(there) => Ok(sequence::followers(there)?),
        Err(unheard) => Err(format!(
            "The publisher does not tell of its sequences: {}.",
            row::shown(unheard.message.trim_end_matches('.'))
        )),
    };
    Ok(Ok(Heard {
        publisher: first,
        followers,
        distance,
    }))
}

fn ask(subscription: &Subscription, publisher: &mut Inquiry) -> Result<Publisher, Unheard> {
    let question = if subscription.provider == "pglogical" {
        &PGLOGICAL
    } else {
        &NATIVE
    };
    let parameters = [
        serde_json::to_string(&subscription.publications).unwrap_or_default(),
        subscription.slot_name.clone().unwrap_or_default(),
    ];
    publisher.ask(question, &parameters)
}

/// Waits a moment until all that the publisher had is applied. What it writes meanwhile does not count.
fn wait_applied(
    subscription: &Subscription,
    publisher: &mut Inquiry,
    first: &Publisher,
) -> Result<Distance, Unheard> {
    const SLOT: &CStr = c"select json_build_object('confirmed_lsn', s.confirmed_flush_lsn - '0/0', 'replay_lsn',
                                 (select max(r.replay_lsn - '0/0') from pg_stat_replication r where r.pid = s.active_pid))
                            from pg_replication_slots s where s.slot_name = $1";
    let committed = subscription.applied_lsn;
    let mut distance = Distance {
        target: first.lsn,
        applied: None,
        committed,
    };
    let mut slot = first.slot;
    let end = Instant::now() + PATIENCE;
    loop {
        let known = slot.map(|slot| [slot.confirmed_lsn, slot.replay_lsn]);
        let known = known.into_iter().flatten().chain([committed]);
        // Nothing may be applied, where nothing came.
        distance.applied = known.flatten().filter(|lsn| *lsn > 0).max();
        let is_over = distance.is_covered() || slot.is_none() || Instant::now() >= end;
        if is_over {
            return Ok(distance);
        }
        background::wait_for_sockets_in_session(PAUSE, &[]);
        let name = subscription.slot_name.clone().unwrap_or_default();
        slot = publisher.ask(SLOT, &[name])?;
    }
}

fn local(subscription: &Subscription, publisher: Option<&Publisher>) -> Result<Local, Error> {
    let (schema, _) = spi::extension()?;
    let quoted = pgrx::spi::quote_identifier(&schema);
    const HAS_KEYS: &str = "
        select 1 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relname = 'repl_detached_foreign_keys'";
    let has_keys = !spi::read(HAS_KEYS, &[schema.into()], |_| Ok(()))?.is_empty();
    let subscribed = if subscription.provider == "pglogical" {
        include_str!("sql/pglogical_subscribed.sql")
    } else {
        include_str!("sql/native_subscribed.sql")
    };
    let detached = if has_keys {
        include_str!("sql/cutover_detached.sql")
    } else {
        "'[]'::pg_catalog.json"
    };
    let sql = include_str!("sql/cutover_local.sql")
        .replace("{subscribed}", subscribed)
        .replace("{detached}", detached)
        .replace("{schema}", &quoted);
    let arguments = [
        i64::from(subscription.id).into(),
        publisher.map(|heard| encoding::json(&heard.tables)).into(),
    ];
    spi::document(&sql, &arguments)
}
