//! `repl_preflight()`: what would go wrong between a publisher and this subscriber, found before it does.

mod line;
mod servers;
mod tables;

use crate::error::Error;
use crate::pg::{encoding, session};
use crate::subscription::access;
use crate::subscription::provider::{self, Subscription};
use crate::subscription::publisher::Inquiry;
use line::Line;
use pgrx::prelude::*;
use std::ffi::CStr;

/// What is to be checked.
struct Plan {
    /// native or pglogical
    provider: &'static str,
    /// May hold a password.
    conninfo: String,
    must_use_password: bool,
    /// Publications, or replication sets.
    publications: Vec<String>,
    /// `None`: there is none yet.
    subscription: Option<Subscription>,
}

/// `_repl_preflight(subscription)`
#[pg_extern(sql = false)]
fn repl_preflight_of_subscription(subscription: Option<&CStr>) -> String {
    report(Plan::of_subscription(subscription))
}

/// `_repl_preflight(conninfo, publications, provider)`
#[pg_extern(sql = false)]
fn repl_preflight_of_publications(
    conninfo: Option<&str>,
    publications: Option<Vec<Option<String>>>,
    provider: Option<&str>,
) -> String {
    report(Plan::of_publications(conninfo, publications, provider))
}

/// The rows of `repl_preflight()`, as JSON.
fn report(plan: Result<Plan, Error>) -> String {
    let lines = plan.and_then(|plan| session::with_safe_search_path(|| lines(&plan)));
    match lines {
        Ok(lines) => encoding::json(&lines),
        Err(error) => error.raise(),
    }
}

/// The worst first; of the same severity, in the order in which they have to be dealt with.
fn lines(plan: &Plan) -> Result<Vec<Line>, Error> {
    let mut lines = servers::of_subscriber(plan)?;
    match Inquiry::open(&plan.conninfo, plan.must_use_password) {
        Ok(mut publisher) => {
            let version = servers::of_publisher(plan, &mut publisher, &mut lines)?;
            if let Some(version) = version {
                lines.extend(tables::lines(plan, &mut publisher, version)?);
            }
        }
        Err(unheard) => lines.insert(0, servers::unheard(plan, &unheard)),
    }
    lines.sort_by_key(|line| line.severity);
    Ok(lines)
}

impl Plan {
    fn of_subscription(name: Option<&CStr>) -> Result<Self, Error> {
        let subscription = access::subscription(name)?;
        Ok(Self {
            provider: provider::named(&subscription.provider).name(),
            conninfo: subscription.conninfo.clone(),
            must_use_password: access::must_use_password(&subscription)?,
            publications: subscription.publications.clone(),
            subscription: Some(subscription),
        })
    }

    fn of_publications(
        conninfo: Option<&str>,
        publications: Option<Vec<Option<String>>>,
        provider: Option<&str>,
    ) -> Result<Self, Error> {
        let conninfo = conninfo.ok_or(Error::NullArgument("conninfo"))?;
        let publications = publications.ok_or(Error::NullArgument("publications"))?;
        let publications: Option<Vec<String>> = publications.into_iter().collect();
        let name = provider.ok_or(Error::NullArgument("provider"))?;
        let provider = provider::named(name).name();
        if provider != name {
            return Err(Error::InvalidProvider {
                value: name.to_owned(),
            });
        }
        Ok(Self {
            provider,
            conninfo: conninfo.to_owned(),
            must_use_password: access::must_bring_password()?,
            publications: publications.ok_or(Error::NullArgument("publications"))?,
            subscription: None,
        })
    }
}
