//! A subscription that somebody names, and its publisher, for those who may make this server connect to it.

use super::provider::{self, Subscription};
use super::publisher::{Inquiry, Unheard};
use crate::error::Error;
use crate::pg::{encoding, session, spi};
use std::ffi::CStr;

/// The subscription of that name. The caller needs no right to the catalogs that know it; what they say of it is not for every
/// eye.
pub(crate) fn subscription(name: Option<&CStr>) -> Result<Subscription, Error> {
    let name = name.ok_or(Error::NullArgument("subscription"))?;
    let name = encoding::to_utf8(name.to_bytes());
    let (_, owner) = spi::extension()?;
    let known = session::as_role(owner, provider::subscriptions)?;
    let (mut meant, others): (Vec<_>, Vec<_>) =
        known.into_iter().partition(|one| one.subscription == name);
    match (meant.pop(), meant.pop()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(Error::AmbiguousSubscription {
            instead: format!(
                "ALTER SUBSCRIPTION {} RENAME TO …, so that each has a name of its own.",
                super::quote::identifier(&name)
            ),
            name,
        }),
        (None, _) => Err(Error::UnknownSubscription {
            name,
            known: others.into_iter().map(|one| one.subscription).collect(),
        }),
    }
}

/// A connection to the publisher of a subscription. Refused to those of [`must_use_password`].
pub(crate) fn publisher_of(subscription: &Subscription) -> Result<Inquiry, Error> {
    let must_use_password = must_use_password(subscription)?;
    Inquiry::open(&subscription.conninfo, must_use_password)
        .map_err(|unheard| Error::unheard(subscription, unheard))
}

/// Whether the caller needs a password in the connection string of a subscription to make this server connect to its
/// publisher: a superuser does not, unless the subscription itself does, and whoever has the rights of its owner does. Refused
/// to everybody else.
pub(crate) fn must_use_password(subscription: &Subscription) -> Result<bool, Error> {
    match caller(subscription.owner.as_deref())? {
        Caller::Superuser => Ok(subscription.must_use_password),
        Caller::Trusted => Ok(true),
        Caller::Stranger => Err(Error::MayNotAsk {
            name: subscription.subscription.clone(),
        }),
    }
}

/// Whether the caller has to bring a password to make this server connect to any other, as CREATE SUBSCRIPTION has it: a
/// superuser has not, and a member of pg_create_subscription (16+) has.
pub(crate) fn must_bring_password() -> Result<bool, Error> {
    match caller(Some("pg_create_subscription"))? {
        Caller::Superuser => Ok(false),
        Caller::Trusted => Ok(true),
        Caller::Stranger => Err(Error::MayNotConnect),
    }
}

enum Caller {
    Superuser,
    /// Has the rights of the role that was named.
    Trusted,
    Stranger,
}

/// Of the current role.
fn caller(trusted: Option<&str>) -> Result<Caller, Error> {
    const CALLER: &str = "
        select r.rolsuper,
               exists (select from pg_catalog.pg_roles t
                        where t.rolname = $1 and pg_catalog.pg_has_role(r.oid, t.oid, 'USAGE'))
          from pg_catalog.pg_roles r where r.rolname = current_user";
    let found = spi::read(CALLER, &[trusted.into()], |row| {
        Ok((
            spi::required::<bool>(row, 1)?,
            spi::required::<bool>(row, 2)?,
        ))
    })?;
    Ok(match found.first() {
        Some((true, _)) => Caller::Superuser,
        Some((_, true)) => Caller::Trusted,
        _ => Caller::Stranger,
    })
}

impl Error {
    /// Why the publisher of a subscription gave no answer.
    pub(crate) fn unheard(subscription: &Subscription, unheard: Unheard) -> Self {
        Self::PublisherUnreachable {
            name: subscription.subscription.clone(),
            message: unheard.message,
        }
    }
}
