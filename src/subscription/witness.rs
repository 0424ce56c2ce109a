//! All that was seen of the workers of the subscriptions besides what the catalogs say, for diagnosis.

use super::captured::{self, CapturedError, Crash, Victim};
use super::provider::Subscription;
use crate::error::Error;
use crate::guc;
use crate::pg::{databases, spi};
use serde::Deserialize;

/// Of one moment.
#[derive(Default)]
pub(crate) struct Witness {
    /// The last first.
    errors: Vec<CapturedError>,
    /// Of workers in this database, the last first.
    crashes: Vec<(Victim, Crash)>,
    broken: Vec<Broken>,
}

/// A crash loop that was broken by disabling a subscription.
#[derive(Debug, Deserialize)]
struct Broken {
    provider: String,
    id: u32,
    at: f64,
    /// Somebody has enabled it since.
    is_over: bool,
}

/// What concerns one subscription.
pub(crate) struct Testimony {
    pub(crate) errors: Vec<CapturedError>,
    pub(crate) crashes: Vec<Crash>,
    pub(crate) broken_at: Option<f64>,
}

const BROKEN: &str = "
select coalesce(pg_catalog.json_agg(b), '[]')::text
  from (select e.provider, e.subscription_id as id,
               extract(epoch from max(e.occurred_at) filter (where e.event = 'crash_loop_broken')) as at,
               max(e.occurred_at) filter (where e.event = 'crash_loop_broken')
               <= coalesce(max(e.occurred_at) filter (where e.event <> 'crash_loop_broken'), '-infinity') as is_over
          from {schema}._repl_events e
         where e.event in ('crash_loop_broken', 'enabled', 'disabled_ended')
         group by e.provider, e.subscription_id
        having count(*) filter (where e.event = 'crash_loop_broken') > 0) b";

impl Witness {
    /// With errors that are known already. In a transaction.
    pub(crate) fn new(
        errors: Vec<CapturedError>,
        subscriptions: &[Subscription],
    ) -> Result<Self, Error> {
        let here = databases::current().to_u32();
        let crashes: Vec<(Victim, Crash)> = captured::crashes()
            .into_iter()
            .rev()
            .filter_map(|(victim, crash)| Some((victim?, crash)))
            .filter(|(victim, _)| victim.database == here)
            .collect();
        let broken = if !crashes.is_empty() || subscriptions.iter().any(|one| !one.enabled) {
            let (schema, _) = spi::extension()?;
            let schema = pgrx::spi::quote_identifier(schema);
            spi::document(&BROKEN.replace("{schema}", &schema), &[])?
        } else {
            Vec::new()
        };
        Ok(Self {
            errors,
            crashes,
            broken,
        })
    }

    /// Of the moment. In a transaction.
    pub(crate) fn gather(subscriptions: &[Subscription]) -> Result<Self, Error> {
        Self::new(captured::newest(subscriptions)?, subscriptions)
    }

    /// `now` in seconds since 1970.
    pub(crate) fn testimony(&self, subscription: &Subscription, now: f64) -> Testimony {
        let window = guc::crash_loop_window().as_secs_f64();
        let is_of = |victim: &Victim| {
            victim.provider == subscription.provider && victim.id == subscription.id
        };
        let mut broken = self.broken.iter();
        let broken =
            broken.find(|one| one.provider == subscription.provider && one.id == subscription.id);
        // What was dealt with is over.
        let since = broken.map_or(f64::NEG_INFINITY, |one| one.at);
        let crashes = self.crashes.iter().filter(|(victim, crash)| {
            is_of(victim) && now - crash.at <= window && crash.at > since
        });
        let errors = self.errors.iter();
        Testimony {
            errors: errors
                .filter(|error| error.concerns(subscription))
                .cloned()
                .collect(),
            crashes: crashes.map(|(_, crash)| crash.clone()).collect(),
            broken_at: broken.filter(|one| !one.is_over).map(|one| one.at),
        }
    }
}
