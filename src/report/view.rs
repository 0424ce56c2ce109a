//! `repl_status()`: gathers the facts of the report.

use super::facts::{Backfill, DerivedColumn, DetachedKey, Report, Subscription, Table};
use super::text;
use crate::error::Error;
use crate::guc;
use crate::pg::{databases, session, shared, spi, version};
use crate::subscription::publisher::epoch;
use crate::subscription::status;
use pgrx::JsonB;
use pgrx::datum::DatumWithOid;
use pgrx::iter::SetOfIterator;
use pgrx::prelude::*;
use serde::Deserialize;
use std::ffi::CStr;

/// `repl_status()`
#[pg_extern(sql = false)]
fn repl_status(subscription: Option<&CStr>) -> SetOfIterator<'static, String> {
    let only = subscription.map(|name| name.to_string_lossy().into_owned());
    match report(only) {
        Ok(report) => SetOfIterator::new(text::lines(&report)),
        Err(error) => error.raise(),
    }
}

/// `_repl_installation()`
#[pg_extern(sql = false)]
fn repl_installation() -> JsonB {
    JsonB(serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "server_version": version::server_version(),
        "database": databases::current_name(),
        "preloaded": shared::is_preloaded(),
        "probe_publisher": guc::probe_publisher(),
        "sampled_at": status::sampled_at(),
    }))
}

fn report(only: Option<String>) -> Result<Report, Error> {
    let overview = status::overview()?;
    if let Some(name) = &only {
        let names = overview.statuses.iter().map(|one| &one.subscription);
        status::check_name(name, names)?;
    }
    let (schema, _) = spi::extension()?;
    let schema = pgrx::spi::quote_identifier(schema);
    let is_wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let unready = if overview.has_unready_tables {
        unready_tables(&schema, only.as_deref())?
    } else {
        Unready::default()
    };
    let derived = derived(&schema)?;
    let subscriptions = overview
        .statuses
        .into_iter()
        .filter(|one| is_wanted(&one.subscription))
        .map(subscription)
        .collect();
    Ok(Report {
        now: epoch(),
        database: databases::current_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        server_version: version::server_version(),
        preloaded: shared::is_preloaded(),
        standby: session::is_in_recovery(),
        sampled_at: overview.sampled_at,
        watch_interval: guc::watch_interval().as_secs_f64(),
        probing: guc::probe_publisher(),
        only,
        subscriptions,
        tables: unready.tables,
        tables_not_ready: unready.number,
        columns: derived.columns,
        backfills: derived.backfills,
        detached_keys: derived.detached_keys,
    })
}

fn subscription(status: status::Status) -> Subscription {
    Subscription {
        provider: status.provider,
        subscription: status.subscription,
        state: status.state.to_owned(),
        cause: status.cause.map(str::to_owned),
        since: status.since,
        publisher: Some(status.publisher),
        tables_total: i64::from(status.tables_total),
        tables_ready: i64::from(status.tables_ready),
        worker_pid: status.worker_pid,
        lag_bytes: status.lag_bytes,
        lag: status.lag,
        last_error: status.last_error,
        last_error_at: status.last_error_at,
        remedy: status.remedy,
        warning: status.warning,
        precautions: status.precautions,
        copy_percent: status.copy_percent,
        copy_bytes_per_second: status.copy_bytes_per_second,
        copy_eta: status.copy_eta,
        slot_active: status.slot_active,
        retained_bytes: status.retained_bytes,
        wal_status: status.wal_status,
        safe_wal_size: status.safe_wal_size,
        asked_at: status.asked_at,
    }
}

#[derive(Default, Deserialize)]
struct Unready {
    number: i64,
    tables: Vec<Table>,
}

/// Some of the tables that are not ready: those with a running copy, then those in trouble, then the others. `$1`: of one
/// subscription.
fn unready_tables(schema: &str, only: Option<&str>) -> Result<Unready, Error> {
    let sql = format!(
        "with unready as materialized (
             select t.* from {schema}.repl_tables t
              where t.state_code is distinct from 'r'
                and not (t.provider = 'pglogical' and coalesce(t.state_code in ('y', ''), false))
                and ($1 is null or t.subscription = $1)
         )
         select pg_catalog.json_build_object(
             'number', (select count(*) from unready),
             'tables', coalesce((select pg_catalog.json_agg(f) from (
                 select provider, subscription, relation_name as name, state, worker_pid, rows_copied, bytes_copied,
                        bytes_total, percent, bytes_per_second, extract(epoch from eta) as eta, last_error
                   from unready
                  order by rows_copied is null, state not in ('copy interrupted', 'missing', 'not subscribed'),
                           worker_pid is null, subscription, relation_name
                  limit 40) f), '[]'))::text"
    );
    spi::document(&sql, &[DatumWithOid::from(only)])
}

#[derive(Deserialize)]
struct Derived {
    columns: Vec<DerivedColumn>,
    backfills: Vec<Backfill>,
    detached_keys: Vec<DetachedKey>,
}

fn derived(schema: &str) -> Result<Derived, Error> {
    spi::document(
        &format!(
            "select pg_catalog.json_build_object(
                 'columns', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                                 'relation', c.relation::text, 'column', c.column_name, 'state', c.state,
                                 'rows_failed', c.rows_failed, 'last_error', c.last_error,
                                 'last_error_at', extract(epoch from c.last_error_at))), '[]')
                               from {schema}.repl_generated_columns c),
                 'backfills', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                                   'id', b.id, 'relation', b.relation::text, 'state', b.state, 'percent', b.percent,
                                   'rows_per_second', b.rows_per_second, 'eta', extract(epoch from b.eta),
                                   'error', b.error) order by b.id), '[]')
                                 from {schema}.repl_backfills b where b.state in ('queued', 'running')),
                 'detached_keys', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                                       'relation', k.relation::text, 'name', pg_catalog.quote_ident(k.constraint_name),
                                       'state', k.state, 'awaits', k.awaits::text, 'problem', k.problem)
                                       order by k.problem is null, k.relation::text, k.constraint_name), '[]')
                                     from {schema}.repl_detached_foreign_keys k where k.relation is not null))::text"
        ),
        &[],
    )
}
