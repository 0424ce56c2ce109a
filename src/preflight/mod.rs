//! `repl_preflight()`: what would go wrong between a publisher and this subscriber, found before it does.

mod line;
mod servers;
mod tables;

use crate::error::Error;
use crate::pg::{encoding, session};
use crate::subscription::access;
use crate::subscription::provider::{self, Subscription};
use line::Line;
use pgrx::prelude::*;
use std::ffi::CStr;

/// What is to be checked.
#[cfg_attr(test, derive(Default))]
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
    conninfo: Option<&[u8]>,
    publications: Option<&[u8]>,
    provider: Option<&str>,
) -> String {
    report(Plan::of_publications(conninfo, publications, provider))
}

/// What keeps a connection from being made is known by the words of libpq and of the system, which are translated.
const SETTINGS: [(&CStr, &CStr); 2] = [session::SAFE_SEARCH_PATH, (c"lc_messages", c"C")];

/// The rows of `repl_preflight()`, as JSON.
fn report(plan: Result<Plan, Error>) -> String {
    let lines = plan.and_then(|plan| session::with_settings(&SETTINGS, || lines(&plan)));
    match lines {
        Ok(lines) => encoding::json(&lines),
        Err(error) => error.raise(),
    }
}

/// The worst first; of the same severity, in the order in which they have to be dealt with.
fn lines(plan: &Plan) -> Result<Vec<Line>, Error> {
    let mut lines = Vec::new();
    if let Some((mut publisher, version)) = servers::lines(plan, &mut lines)? {
        lines.extend(tables::lines(plan, &mut publisher, version)?);
    }
    lines.sort_by_key(|line| line.severity);
    Ok(lines)
}

impl Plan {
    fn is_native(&self) -> bool {
        self.provider == "native"
    }

    /// Some table is still to be copied.
    fn copies(&self) -> bool {
        let subscription = self.subscription.as_ref();
        subscription.is_none_or(Subscription::is_copying)
    }

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
        conninfo: Option<&[u8]>,
        publications: Option<&[u8]>,
        provider: Option<&str>,
    ) -> Result<Self, Error> {
        let conninfo = conninfo.ok_or(Error::NullArgument("conninfo"))?;
        let publications = publications.ok_or(Error::NullArgument("publications"))?;
        let publications: Vec<Option<String>> = serde_json::from_slice(publications)
            .map_err(|error| Error::UnreadableDocument(error.to_string()))?;
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
            conninfo: String::from_utf8_lossy(conninfo).into_owned(),
            must_use_password: access::must_bring_password()?,
            publications: publications.ok_or(Error::NullArgument("publications"))?,
            subscription: None,
        })
    }
}
