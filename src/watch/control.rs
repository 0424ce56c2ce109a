//! Acts on a subscription, native or of pglogical alike. They are done with the rights of whoever asks, and the server, or
//! pglogical, says whether these suffice. Each is an event.

use super::event::{self, Event, Part, episode_name};
use crate::error::Error;
use crate::pg::{session, spi};
use crate::subscription::provider::{self, Provider, Subscription, Switch};
use crate::subscription::publisher::epoch;
use crate::subscription::quote::literal;
use pgrx::prelude::*;
use serde_json::json;
use std::ffi::CStr;

/// `repl_enable()`
#[pg_extern(sql = false)]
fn repl_enable(subscription: Option<&CStr>) {
    if let Err(error) = switch(subscription, true) {
        error.raise();
    }
}

/// `repl_disable()`
#[pg_extern(sql = false)]
fn repl_disable(subscription: Option<&CStr>) {
    if let Err(error) = switch(subscription, false) {
        error.raise();
    }
}

/// `repl_restart_worker()`
#[pg_extern(sql = false)]
fn repl_restart_worker(subscription: Option<&CStr>) -> bool {
    match restart(subscription) {
        Ok(is_restarted) => is_restarted,
        Err(error) => error.raise(),
    }
}

fn switch(subscription: Option<&CStr>, on: bool) -> Result<(), Error> {
    session::refuse_read_only(if on {
        c"repl_enable()"
    } else {
        c"repl_disable()"
    });
    let statement = |provider: &dyn Provider, name: &str| {
        if on {
            provider.enable(name)
        } else {
            provider.disable(name)
        }
    };
    let target = Target::find(subscription, statement)?;
    let is_new = target.switch.is_on != on;
    // The server says who may not, even where nothing is to be done.
    if is_new || !target.provider.restarts_when_altered() {
        spi::run(&statement(target.provider, &target.switch.name))?;
    }
    if !is_new {
        return Ok(());
    }
    if on {
        return event::record(target.event("enabled", "has switched it on with repl_enable()")?);
    }
    let mut event = target.event("disabled", "has switched it off with repl_disable()")?;
    // The worker of the database sees the same begin, and has not to say it again.
    event.cause = Some("disabled".to_owned());
    event.detail["state"] = json!("disabled");
    event.since = Some(event.occurred_at);
    event.part = Part::GoesOn(episode_name(
        target.provider.name(),
        Some(target.switch.id),
        "disabled",
        None,
    ));
    event::record(event)
}

/// False if no worker runs, and the server will start one by itself.
fn restart(subscription: Option<&CStr>) -> Result<bool, Error> {
    session::refuse_read_only(c"repl_restart_worker()");
    let target = Target::find(subscription, |provider, name| {
        if provider.restarts_when_altered() {
            format!("{} {}", provider.disable(name), provider.enable(name))
        } else {
            format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_subscription WHERE subname = {} AND relid IS NULL;",
                literal(name)
            )
        }
    })?;
    if !target.switch.is_on {
        return Err(Error::SubscriptionDisabled {
            name: target.switch.name,
        });
    }
    let Some(pid) = restart_one(target.provider, target.switch.id, &target.switch.name)? else {
        return Ok(false);
    };
    let did = "has restarted its apply worker with repl_restart_worker()";
    let mut event = target.event("worker_restarted", did)?;
    if let Some(pid) = pid {
        event.detail["pid"] = json!(pid);
    }
    event::record(event)?;
    Ok(true)
}

/// Has the apply worker of a subscription replaced, by the worker of the database. Gives the process that was ended, as far as
/// that is known; `None`: none was.
pub(crate) fn restart_worker(subscription: &Subscription) -> Result<Option<Option<i32>>, Error> {
    let provider = provider::named(&subscription.provider);
    if provider.restarts_when_altered() && !stays_on(subscription.id)? {
        return Ok(None);
    }
    let outcome = restart_one(provider, subscription.id, &subscription.subscription)?;
    let worker = subscription.worker.as_ref().map(|worker| worker.pid);
    Ok(outcome.map(|pid| pid.or(worker)))
}

/// Whether a subscription of pglogical is switched on still, and until this transaction ends. What a sample said of it may be
/// out of date, and its restart switches it on; nor does that wait for whoever is about to change it.
fn stays_on(id: u32) -> Result<bool, Error> {
    const SWITCH: &str = "
        select s.sub_enabled from pglogical.subscription s where s.sub_id = $1::pg_catalog.oid
           for no key update skip locked";
    let found = spi::query(SWITCH, &[i64::from(id).into()], |row| {
        spi::required::<bool>(row, 1)
    })?;
    Ok(found == [true])
}

/// `None`: no worker runs, and the server will start one by itself. Otherwise the process that was ended, where it was not
/// pglogical that did it.
fn restart_one(provider: &dyn Provider, id: u32, name: &str) -> Result<Option<Option<i32>>, Error> {
    if provider.restarts_when_altered() {
        // Without any pause, even if there was no worker because the last one has failed.
        spi::run(&provider.disable(name))?;
        spi::run(&provider.enable(name))?;
        return Ok(Some(None));
    }
    Ok(terminate(id)?.map(Some))
}

/// Ends the apply worker of a native subscription. `None`: there is none.
fn terminate(id: u32) -> Result<Option<i32>, Error> {
    const WORKER: &str = "
        select w.pid from pg_catalog.pg_stat_get_subscription($1::oid) w
         where w.pid is not null and w.relid is null and pg_catalog.to_jsonb(w) ->> 'leader_pid' is null";
    let worker = spi::read(WORKER, &[i64::from(id).into()], |row| {
        spi::required::<i32>(row, 1)
    })?;
    let Some(pid) = worker.first().copied() else {
        return Ok(None);
    };
    let ended = spi::read(
        "select pg_catalog.pg_terminate_backend($1)",
        &[pid.into()],
        |row| spi::required::<bool>(row, 1),
    )?;
    Ok((ended == [true]).then_some(pid))
}

/// Whether pglogical is installed and the caller may not see its subscriptions.
fn pglogical_is_hidden() -> Result<bool, Error> {
    const HIDDEN: &str = "
        select 1 from pg_catalog.pg_namespace n
          join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = 'subscription'
         where n.nspname = 'pglogical'
           and not (pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select'))";
    Ok(!spi::read(HIDDEN, &[], |_| Ok(()))?.is_empty())
}

/// The subscription that is meant.
struct Target {
    provider: &'static dyn Provider,
    switch: Switch,
}

impl Target {
    /// `statement`: what does the same to that of one provider.
    fn find(
        name: Option<&CStr>,
        statement: impl Fn(&dyn Provider, &str) -> String,
    ) -> Result<Self, Error> {
        let name = name.ok_or(Error::NullArgument("subscription"))?;
        let name = name.to_string_lossy().into_owned();
        let mut present = provider::present()?;
        let is_hidden =
            present.iter().any(|one| one.name() == "pglogical") && pglogical_is_hidden()?;
        if is_hidden {
            present.retain(|one| one.name() != "pglogical");
        }
        let mut known = Vec::new();
        for provider in present {
            let switches = provider::switches(provider)?.into_iter();
            known.extend(switches.map(|switch| Self { provider, switch }));
        }
        let (mut meant, others): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|one| one.switch.name == name);
        match (meant.pop(), meant.pop()) {
            (Some(one), None) => Ok(one),
            (Some(one), Some(other)) => Err(Error::AmbiguousSubscription {
                instead: [other, one]
                    .map(|one| statement(one.provider, &name))
                    .join(" or "),
                name,
            }),
            (None, _) if is_hidden => Err(Error::PglogicalHidden { name }),
            (None, _) => Err(Error::UnknownSubscription {
                name,
                known: others.into_iter().map(|one| one.switch.name).collect(),
            }),
        }
    }

    /// `did`: what the caller has done.
    fn event(&self, word: &str, did: &str) -> Result<Event, Error> {
        let by = current_user()?;
        Ok(Event {
            occurred_at: epoch(),
            provider: self.provider.name().to_owned(),
            id: Some(self.switch.id),
            subscription: Some(self.switch.name.clone()),
            severity: "info".to_owned(),
            event: word.to_owned(),
            cause: None,
            detail: json!({"finding": format!("{by} {did}."), "by": by}),
            since: None,
            part: Part::Whole,
        })
    }
}

fn current_user() -> Result<String, Error> {
    let found = spi::read("select current_user::pg_catalog.text", &[], |row| {
        spi::required(row, 1)
    })?;
    Ok(found.into_iter().next().unwrap_or_default())
}
