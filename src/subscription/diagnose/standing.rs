//! Which of the errors that were seen still say why a subscription is as it is.

use super::Scene;
use crate::subscription::captured::{CapturedError, WorkerKind};
use crate::subscription::cause::Cause;
use crate::subscription::failure::{self, Failure, classify, interval_between};
use crate::subscription::provider::Worker;
use crate::subscription::quote::identifier;

/// An error older than this says nothing, unless nothing has been applied since.
const OLD: f64 = 300.0;

/// So long after a parallel worker has failed its leader may say so, in seconds.
const TOGETHER: f64 = 10.0;

#[derive(Clone, Copy)]
pub(super) struct Standing<'a> {
    pub(super) error: &'a CapturedError,
    pub(super) failure: Failure,
}

/// Errors of this subscription, the last first. Who was ended by an administrator, or by the crash of another process, has
/// not failed.
fn errors<'a>(scene: &'a Scene) -> impl Iterator<Item = Standing<'a>> {
    let id = scene.subscription.id;
    let errors = scene.around.errors.iter();
    errors
        .filter(move |error| error.id == Some(id))
        .filter(|error| !matches!(error.sqlstate.as_str(), "57P01" | "57P02"))
        .map(|error| {
            let mut failure = classify(error);
            // Up to 17 a generated column here counts as one that is missing.
            if failure.cause == Cause::ColumnMissing && is_generated(scene, error) {
                failure.cause = Cause::GeneratedColumnIncompatible;
            }
            Standing { error, failure }
        })
}

/// It is about a table that is known to have a generated column.
fn is_generated(scene: &Scene, error: &CapturedError) -> bool {
    if error.is_of_generated_column {
        return true;
    }
    let Some((schema, table)) = &error.relation else {
        return false;
    };
    let known = scene.around.known.map(|known| &known.generated_tables);
    let spelled = |name: &str| [name.to_owned(), identifier(name)];
    let names = spelled(schema)
        .into_iter()
        .flat_map(|schema| spelled(table).map(|table| format!("{schema}.{table}")));
    known.is_some_and(|known| names.into_iter().any(|name| known.contains(&name)))
}

fn is_of_apply(error: &CapturedError) -> bool {
    matches!(error.kind, WorkerKind::Apply | WorkerKind::ParallelApply)
}

/// The last of those that have their own reason, before those that pass one on.
fn first_of<'a>(found: impl Iterator<Item = Standing<'a>>) -> Option<Standing<'a>> {
    found.min_by_key(|one| failure::distance(one.error))
}

/// The error over which changes that were received cannot be applied.
pub(super) fn of_data<'a>(scene: &'a Scene) -> Option<Standing<'a>> {
    let applied = scene.subscription.applied_lsn;
    let is_ahead = |finish: i64, error: &CapturedError| {
        applied.is_none_or(|applied| applied < finish) && is_fresh(scene, error)
    };
    // That of a parallel worker does not say where its transaction ends; that of the leader, which passes it on, does.
    let passed_on = errors(scene)
        .map(|one| one.error)
        .filter(|error| is_of_apply(error) && failure::distance(error) > 0)
        .find(|error| {
            error
                .finish_lsn
                .is_some_and(|finish| is_ahead(finish, error))
        })
        .map(|error| error.last_at);
    let mut is_newest = true;
    let standing = errors(scene)
        .filter(|one| is_of_apply(one.error) && !failure::is_of_copy(one.error))
        .filter(|one| {
            let is_newest = std::mem::take(&mut is_newest);
            let is_recurring = matches!(
                one.failure.cause,
                Cause::WalReceiverTimeout | Cause::WalSenderTimeout
            );
            if one.failure.is_connection && !is_recurring {
                return false;
            }
            if let Some(finish) = one.error.finish_lsn {
                return is_ahead(finish, one.error);
            }
            let is_passed_on = one.error.kind == WorkerKind::ParallelApply
                && passed_on.is_some_and(|at| (at - one.error.last_at).abs() <= TOGETHER);
            is_passed_on || is_newest && comes_again(scene, one)
        });
    // All of them, for `first_of` to choose from.
    let standing: Vec<Standing> = standing.collect();
    first_of(standing.into_iter())
}

/// The last error over data, of an apply worker or of a copy: what disabled the subscription.
pub(super) fn last_of_data<'a>(scene: &'a Scene) -> Option<Standing<'a>> {
    first_of(errors(scene).filter(|one| {
        failure::is_of_copy(one.error) || is_of_apply(one.error) && !one.failure.is_connection
    }))
}

/// The last error that an apply worker ended with, if it was the connection or the publisher that failed.
pub(super) fn of_connection<'a>(scene: &'a Scene) -> Option<Standing<'a>> {
    let mut errors = errors(scene).filter(|one| is_of_apply(one.error));
    let newest = errors.next()?;
    (newest.failure.is_connection && is_fresh(scene, newest.error)).then_some(newest)
}

/// The error over which tables cannot be copied.
pub(super) fn of_copy<'a>(scene: &'a Scene) -> Option<Standing<'a>> {
    let one = scene.subscription;
    let standing: Vec<Standing> = errors(scene)
        .filter(|standing| failure::is_of_copy(standing.error))
        .filter(|standing| {
            let error = standing.error;
            let worker = match table(scene, error) {
                Some(relation) => relation.and_then(|relation| {
                    let mut workers = one.sync_workers.iter();
                    workers.find(|worker| worker.relation == Some(relation))
                }),
                // Of a table that is not known to be begun: it failed before, or is ready.
                None if one.initial_code.is_none() && error.relation.is_some() => {
                    return standing.failure.is_connection && scene.age(error) < 60.0;
                }
                None => one.sync_workers.first(),
            };
            is_recent(scene, error) && worker.is_none_or(|worker| !outlasts(scene, worker, error))
        })
        .collect();
    first_of(standing.into_iter())
}

/// The table of an error among those whose copy has begun, and its OID where that is known.
fn table(scene: &Scene, error: &CapturedError) -> Option<Option<u32>> {
    let (schema, name) = error.relation.as_ref()?;
    let mut begun = scene.subscription.tables_begun.iter();
    let table = begun.find(|one| one.schema_name == *schema && one.table_name == *name)?;
    Some(table.relation)
}

/// A worker that was started after the error goes on longer than such a worker lives.
fn outlasts(scene: &Scene, worker: &Worker, error: &CapturedError) -> bool {
    let usual = interval_between(error).unwrap_or(0.0) * 1.5;
    let patience = scene.around.stall_timeout.max(10.0).max(usual);
    worker
        .started_at
        .is_some_and(|started| started > error.last_at && scene.around.now - started >= patience)
}

fn is_recent(scene: &Scene, error: &CapturedError) -> bool {
    let usual = interval_between(error).unwrap_or(0.0) * 1.5;
    scene.age(error) <= OLD.max(usual)
}

/// It is not long ago, or nothing has been applied since.
fn is_fresh(scene: &Scene, error: &CapturedError) -> bool {
    let has_stood = scene.around.progress.is_some_and(|progress| {
        progress.applied_at <= error.last_at && progress.stands_at(scene.applied_lsn())
    });
    scene.age(error) <= OLD || has_stood
}

/// Of an error that does not say where its transaction ends (14 never says it): there is no worker, or its next attempt has
/// just begun and nothing was applied since the last.
fn comes_again(scene: &Scene, one: &Standing) -> bool {
    if scene.subscription.is_apart() {
        return is_fresh(scene, one.error);
    }
    let Some(progress) = scene.around.progress else {
        return false;
    };
    let has_applied =
        !progress.stands_at(scene.applied_lsn()) || progress.applied_at > one.error.last_at;
    let usual = interval_between(one.error).unwrap_or(0.0) * 1.5;
    one.error.occurrences >= 2
        && !has_applied
        && progress.behind_since.is_some()
        && scene.age(one.error) <= usual.clamp(10.0, OLD)
}
