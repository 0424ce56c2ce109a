//! The status of each subscription: what the subscriber's catalogs say at this moment, joined with what the worker of the
//! database has heard from the publisher.

use super::cause::{Cause, Severity};
use super::condition::{Lag, State};
use super::conninfo::Conninfo;
use super::diagnose::{Surroundings, diagnose};
use super::failure::reason;
use super::finding::{Diagnosis, plain};
use super::known::{Known, KnownPublisher, KnownSubscription};
use super::provider::{self, Subscription};
use super::publisher::{epoch, retention_warning};
use super::witness::{Testimony, Witness};
use crate::error::Error;
use crate::guc;
use crate::pg::applied;
use crate::pg::board::{self, Part};
use serde::Serialize;

/// The columns of `repl_subscriptions`: LSNs are bytes since 0/0, times seconds since 1970, the rest seconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Status {
    pub(crate) provider: String,
    pub(crate) subscription: String,
    pub(crate) enabled: bool,
    pub(crate) state: &'static str,
    pub(crate) cause: Option<&'static str>,
    pub(crate) since: Option<f64>,
    pub(crate) publisher: String,
    pub(crate) slot_name: Option<String>,
    pub(crate) publications: Vec<String>,
    pub(crate) tables_total: i32,
    pub(crate) tables_ready: i32,
    pub(crate) worker_pid: Option<i32>,
    pub(crate) received_lsn: Option<i64>,
    pub(crate) applied_lsn: Option<i64>,
    pub(crate) publisher_lsn: Option<i64>,
    pub(crate) lag_bytes: Option<i64>,
    pub(crate) lag: Option<f64>,
    pub(crate) last_message_at: Option<f64>,
    pub(crate) apply_errors: Option<i64>,
    pub(crate) sync_errors: Option<i64>,
    pub(crate) last_error: Option<String>,
    pub(crate) last_error_at: Option<f64>,
    pub(crate) remedy: Option<String>,
    pub(crate) slot_active: Option<bool>,
    pub(crate) restart_lsn: Option<i64>,
    pub(crate) retained_bytes: Option<i64>,
    pub(crate) wal_status: Option<String>,
    pub(crate) safe_wal_size: Option<i64>,
    pub(crate) warning: Option<String>,
    pub(crate) copy_percent: Option<f64>,
    pub(crate) copy_bytes_per_second: Option<f64>,
    pub(crate) copy_eta: Option<f64>,
    pub(crate) asked_at: Option<f64>,
    /// What to do about the warning: SQL.
    #[serde(skip)]
    pub(crate) precautions: Vec<String>,
    /// Where state, cause and remedy come from.
    #[serde(skip)]
    pub(crate) diagnosis: Diagnosis,
}

/// What is longer is shown as this, in seconds: ten years. An interval does not hold everything that a float does.
const LONGEST: f64 = 315_360_000.0;

/// All subscriptions of this database.
pub(crate) struct Overview {
    pub(crate) statuses: Vec<Status>,
    /// When the worker last looked.
    pub(crate) sampled_at: Option<f64>,
    /// Some table is not ready, or is published and not subscribed.
    pub(crate) has_unready_tables: bool,
}

pub(crate) fn overview() -> Result<Overview, Error> {
    overview_of(&provider::subscriptions()?, known(), None)
}

/// With what somebody has found out. `witness`: what was seen of the workers, if it is known already.
pub(crate) fn overview_of(
    subscriptions: &[Subscription],
    known: Option<Known>,
    witness: Option<Witness>,
) -> Result<Overview, Error> {
    let witness = match witness {
        Some(witness) => witness,
        None => Witness::gather(subscriptions)?,
    };
    let now = epoch();
    let statuses = subscriptions
        .iter()
        .map(|one| {
            let known_one = known
                .as_ref()
                .and_then(|known| known.subscription(&one.provider, one.id));
            let testimony = witness.testimony(one, now);
            let mut status = status(one, known_one, &testimony, now);
            let hazards = known.iter().flat_map(|known| &known.hazards);
            for hazard in hazards.filter(|hazard| hazard.is_of(one) && hazard.cause.is_pressing()) {
                let warning = status.warning.get_or_insert_default();
                if !warning.is_empty() {
                    warning.push(' ');
                }
                warning.push_str(&hazard.finding);
                status.precautions.extend(hazard.remedy.clone());
            }
            status.since = match (&known, known_one) {
                (None, _) => None,
                (_, Some(one)) if one.state == status.state => one.since,
                // What has changed since the worker looked has changed after it looked.
                (Some(known), _) => Some(known.sampled_at),
            };
            status
        })
        .collect();
    let mut known_ones = known.iter().flat_map(|known| &known.subscriptions);
    let has_unready_tables = subscriptions.iter().any(Subscription::is_copying)
        || known_ones.any(|one| one.tables_absent > 0);
    Ok(Overview {
        statuses,
        sampled_at: known.map(|known| known.sampled_at),
        has_unready_tables,
    })
}

/// Refuses a name that no subscription has.
pub(crate) fn check_name<'a>(
    name: &str,
    known: impl Iterator<Item = &'a String>,
) -> Result<(), Error> {
    let mut known: Vec<String> = known.cloned().collect();
    if known.iter().any(|one| one == name) {
        return Ok(());
    }
    known.dedup();
    Err(Error::UnknownSubscription {
        name: name.to_owned(),
        known,
    })
}

/// When the worker of this database last looked.
pub(crate) fn sampled_at() -> Option<f64> {
    known().map(|known| known.sampled_at)
}

/// What the worker of this database has laid out.
pub(crate) fn known() -> Option<Known> {
    serde_json::from_slice(&board::read(Part::Subscriptions)?).ok()
}

/// The last error of the subscription's own workers that was none of an administrator, and when.
fn last_error(testimony: &Testimony, id: u32) -> Option<(String, f64)> {
    const ADMIN_SHUTDOWN: &str = "57P01";
    let mut errors = testimony.errors.iter();
    let last = errors.find(|error| error.id == Some(id) && error.sqlstate != ADMIN_SHUTDOWN)?;
    Some((plain(reason(last)), last.last_at))
}

/// All but `since`.
pub(crate) fn status(
    subscription: &Subscription,
    known: Option<&KnownSubscription>,
    testimony: &Testimony,
    now: f64,
) -> Status {
    let publisher = known.and_then(|known| known.publisher.as_ref());
    let slot = publisher.and_then(|publisher| publisher.slot.as_ref());
    let applied_lsn = applied_lsn(subscription, publisher);
    let is_ahead = known.is_some_and(|known| known.is_ahead);
    let lag = publisher
        .filter(|_| !is_ahead)
        .map_or_else(Lag::default, |publisher| {
            lag(publisher, applied_lsn, committed_at(subscription), now)
        });
    let around = Surroundings {
        known,
        errors: &testimony.errors,
        crashes: &testimony.crashes,
        broken_at: testimony.broken_at,
        progress: known.and_then(|known| known.progress.as_ref()),
        lag,
        now,
        stall_timeout: guc::stall_timeout().as_secs_f64(),
        watch_interval: guc::watch_interval().as_secs_f64(),
        crash_loop_threshold: guc::crash_loop_threshold(),
    };
    let diagnosis = diagnose(subscription, &around);
    let state = diagnosis.state;
    let asked = known.and_then(|known| known.error.clone().zip(known.error_at));
    // Of what a worker said and what we heard ourselves, the last.
    let last_error = [last_error(testimony, subscription.id), asked]
        .into_iter()
        .flatten()
        .max_by(|one, other| one.1.total_cmp(&other.1));
    let retained_bytes = publisher
        .zip(slot.and_then(|slot| slot.restart_lsn))
        .map(|(publisher, restart)| publisher.lsn.saturating_sub(restart).max(0));
    let copy = known
        .filter(|_| matches!(state, State::Copying | State::Stalled))
        .and_then(|known| known.copy.as_ref());
    let tables_published = known.and_then(|known| known.tables_published);
    Status {
        provider: subscription.provider.clone(),
        subscription: subscription.subscription.clone(),
        enabled: subscription.enabled,
        state: state.word(),
        cause: diagnosis.cause().map(|one| Cause::word(one.cause)),
        since: None,
        publisher: Conninfo::parse(&subscription.conninfo).shown(),
        slot_name: subscription.slot_name.clone(),
        publications: subscription.publications.clone(),
        // pglogical lists the tables of a new subscription only when all of them are copied.
        tables_total: match subscription.initial_code {
            Some(_) => subscription.tables_total.max(tables_published.unwrap_or(0)),
            None => subscription.tables_total,
        },
        tables_ready: subscription.tables_ready,
        worker_pid: subscription.worker.as_ref().map(|worker| worker.pid),
        received_lsn: subscription.received_lsn,
        applied_lsn,
        publisher_lsn: publisher.map(|publisher| publisher.lsn),
        lag_bytes: lag.bytes,
        lag: lag.seconds,
        last_message_at: subscription.last_message_at,
        apply_errors: subscription.apply_errors,
        sync_errors: subscription.sync_errors,
        last_error_at: last_error.as_ref().map(|(_, at)| *at),
        last_error: last_error.map(|(message, _)| message),
        remedy: diagnosis.cause().and_then(|one| one.remedy.clone()),
        slot_active: slot.map(|slot| slot.row.active),
        restart_lsn: slot.and_then(|slot| slot.restart_lsn),
        retained_bytes,
        wal_status: slot.and_then(|slot| slot.row.wal_status.clone()),
        safe_wal_size: slot.and_then(|slot| slot.row.safe_wal_size),
        warning: warning(subscription, known, retained_bytes),
        copy_percent: copy.map(|copy| copy.percent),
        copy_bytes_per_second: copy.and_then(|copy| copy.bytes_per_second),
        copy_eta: copy.and_then(|copy| copy.seconds_left.map(|left| left.min(LONGEST))),
        asked_at: publisher.map(|publisher| publisher.asked_at),
        precautions: precautions(&diagnosis),
        diagnosis,
    }
}

/// What to do about what does not explain the state.
fn precautions(diagnosis: &Diagnosis) -> Vec<String> {
    let others = diagnosis
        .findings
        .iter()
        .skip(usize::from(diagnosis.is_explained));
    let others = others.filter(|one| one.severity >= Severity::Warning);
    others.filter_map(|one| one.remedy.clone()).collect()
}

/// The furthest position that anybody knows to be applied: the subscriber's own record of commits, what its worker last
/// reported, and what the publisher has heard.
pub(crate) fn applied_lsn(
    subscription: &Subscription,
    publisher: Option<&KnownPublisher>,
) -> Option<i64> {
    let slot = publisher.and_then(|publisher| publisher.slot.as_ref());
    [
        subscription.applied_lsn,
        subscription.handled_lsn,
        slot.and_then(|slot| slot.replay_lsn),
        slot.and_then(|slot| slot.confirmed_lsn),
    ]
    .into_iter()
    .flatten()
    .max()
    .filter(|lsn| *lsn > 0)
}

/// When the publisher committed what was applied last.
fn committed_at(subscription: &Subscription) -> Option<f64> {
    let pid = subscription.worker.as_ref().map(|worker| worker.pid);
    applied::committed_at(subscription.origin?, subscription.applied_lsn?, pid)
}

/// The time is the smaller of two upper bounds, each of which is far too large at times: since the commit of what was
/// applied last (an idle publisher commits nothing), and since the publisher was last seen no further than that (the worker
/// may have begun to look only now).
fn lag(
    publisher: &KnownPublisher,
    applied_lsn: Option<i64>,
    committed_at: Option<f64>,
    now: f64,
) -> Lag {
    let Some(applied) = applied_lsn else {
        return Lag::default();
    };
    let bytes = publisher.lsn.saturating_sub(applied).max(0);
    let seconds = if bytes == 0 {
        Some(0.0)
    } else {
        let since_commit = committed_at.map(|at| now + publisher.clock_ahead - at);
        let since_level = publisher.level_at.map(|at| now - at);
        [since_commit, since_level]
            .into_iter()
            .flatten()
            .map(|seconds| seconds.clamp(0.0, LONGEST))
            .reduce(f64::min)
    };
    Lag {
        bytes: Some(bytes),
        seconds,
    }
}

fn warning(
    subscription: &Subscription,
    known: Option<&KnownSubscription>,
    retained_bytes: Option<i64>,
) -> Option<String> {
    let known = known?;
    let mut warnings = Vec::new();
    if known.is_ahead {
        warnings.push(
            "What is applied here is beyond the end of the publisher's WAL: it is another server, or was restored from a \
             backup. Changes up to that position are skipped without a word."
                .to_owned(),
        );
    }
    if let Some(publisher) = &known.publisher
        && let Some(slot) = &publisher.slot
    {
        warnings.extend(retention_warning(
            &slot.row,
            retained_bytes,
            publisher.max_wal_size,
            publisher.max_slot_wal_keep_size,
        ));
    }
    if !known.publications_missing.is_empty() {
        warnings.push(format!(
            "The publisher does not have: {}.",
            known.publications_missing.join(", ")
        ));
    }
    if known.tables_absent > 0
        && subscription.provider == "native"
        && !subscription.subscription.contains(char::is_control)
    {
        let tables = match known.tables_absent {
            1 => "1 published table is".to_owned(),
            number => format!("{number} published tables are"),
        };
        let refresh = provider::named(&subscription.provider).refresh(&subscription.subscription);
        warnings.push(format!("{tables} not subscribed: {refresh}"));
    }
    (!warnings.is_empty()).then(|| warnings.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher(lsn: i64, level_at: Option<f64>) -> KnownPublisher {
        KnownPublisher {
            lsn,
            level_at,
            clock_ahead: 5.0,
            ..KnownPublisher::default()
        }
    }

    #[test]
    fn lag_is_zero_when_all_is_applied() {
        let found = lag(&publisher(100, None), Some(100), Some(1.0), 1000.0);
        assert_eq!((found.bytes, found.seconds), (Some(0), Some(0.0)));
    }

    #[test]
    fn lag_is_the_smaller_of_what_is_known() {
        let seconds = |level_at, committed_at| {
            lag(&publisher(200, level_at), Some(100), committed_at, 1000.0).seconds
        };
        assert_eq!(seconds(Some(990.0), Some(400.0)), Some(10.0));
        assert_eq!(seconds(Some(100.0), Some(1000.0)), Some(5.0));
        assert_eq!(seconds(None, Some(1000.0)), Some(5.0));
        assert_eq!(seconds(None, None), None);
    }

    #[test]
    fn nothing_applied_is_no_lag_that_could_be_told() {
        let found = lag(&publisher(200, None), None, None, 1000.0);
        assert_eq!((found.bytes, found.seconds), (None, None));
    }

    #[test]
    fn furthest_position_counts() {
        let subscription = Subscription {
            applied_lsn: Some(5),
            handled_lsn: Some(9),
            ..Subscription::default()
        };
        assert_eq!(applied_lsn(&subscription, None), Some(9));
        assert_eq!(applied_lsn(&Subscription::default(), None), None);
    }
}
