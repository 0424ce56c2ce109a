//! `repl_diagnose()`: what is found out at this moment, whether a worker watches or not.

use super::watcher::Watcher;
use crate::error::Error;
use crate::guc;
use crate::pg::{background, encoding, session};
use crate::subscription::cause::Severity;
use crate::subscription::hazard::Hazard;
use crate::subscription::known::Known;
use crate::subscription::provider;
use crate::subscription::publisher::epoch;
use crate::subscription::status::{self, Status};
use crate::subscription::witness::Witness;
use pgrx::prelude::*;
use serde::Serialize;
use std::ffi::CStr;
use std::time::{Duration, Instant};

/// A row of `repl_diagnose()`.
#[derive(Serialize)]
struct Row {
    subscription: String,
    severity: &'static str,
    cause: Option<&'static str>,
    finding: String,
    evidence: serde_json::Value,
    remedy: Option<String>,
}

impl Row {
    fn of_hazard(hazard: &Hazard) -> Self {
        Self {
            subscription: hazard.subscription.clone(),
            severity: Severity::Warning.word(),
            cause: Some(hazard.cause.word()),
            finding: hazard.finding.clone(),
            evidence: hazard.evidence.clone(),
            remedy: hazard.remedy.clone(),
        }
    }
}

/// `_repl_findings()`
#[pg_extern(sql = false)]
fn repl_findings(subscription: Option<&CStr>) -> String {
    let only = subscription.map(|name| name.to_string_lossy().into_owned());
    match findings(only.as_deref()) {
        Ok(rows) => encoding::json(&rows),
        Err(error) => error.raise(),
    }
}

fn findings(only: Option<&str>) -> Result<Vec<Row>, Error> {
    let mut subscriptions = provider::subscriptions()?;
    if let Some(name) = only {
        status::check_name(name, subscriptions.iter().map(|one| &one.subscription))?;
        subscriptions.retain(|one| one.subscription == name);
    }
    let known = match status::known().filter(is_fresh) {
        Some(known) => Some(known),
        None => ask()?,
    };
    let hazards = known.as_ref().map_or(&[][..], |known| &known.hazards);
    let hazards = hazards.iter().filter(|one| {
        subscriptions
            .iter()
            .any(|subscription| one.is_of(subscription))
    });
    let hazards: Vec<Row> = hazards.map(Row::of_hazard).collect();
    let overview = status::overview_of(&subscriptions, known, None)?;
    let mut rows: Vec<Row> = Vec::new();
    for status in &overview.statuses {
        let has_hazard = hazards
            .iter()
            .any(|one| one.subscription == status.subscription);
        let is_well = status.diagnosis.findings.is_empty();
        if !(is_well && has_hazard) {
            rows.extend(self::rows(status));
        }
    }
    rows.extend(hazards);
    // A stable sort: of one subscription, what explains its state stays first.
    rows.sort_by_key(|row| match row.severity {
        "critical" => 0,
        "warning" => 1,
        _ => 2,
    });
    Ok(rows)
}

/// The worker is at work.
fn is_fresh(known: &Known) -> bool {
    let age = epoch() - known.sampled_at;
    age <= 3.0 * guc::watch_interval().as_secs_f64() + 5.0
}

/// Asks the publishers from this session, if it may: nobody but a superuser makes the server connect somewhere.
fn ask() -> Result<Option<Known>, Error> {
    if session::is_in_recovery() || !guc::probe_publisher() || !session::is_called_by_superuser() {
        return Ok(None);
    }
    let mut watcher = Watcher::default();
    watcher.look()?;
    // To connect, and for two answers.
    let end = Instant::now() + guc::probe_timeout() * 3 + Duration::from_millis(500);
    while !watcher.has_heard_all() {
        let now = Instant::now();
        if now >= end {
            break;
        }
        let until = watcher.next_time(now).min(end);
        let pause = until.saturating_duration_since(now);
        let woken = background::wait_for_sockets_in_session(pause, &watcher.sockets());
        watcher.advance(&woken.sockets);
    }
    watcher.look()?;
    watcher.look_for_hazards()?;
    let witness = Witness::gather(watcher.subscriptions())?;
    watcher.set_witness(witness);
    Ok(Some(watcher.learn()))
}

fn rows(status: &Status) -> Vec<Row> {
    let found = status.diagnosis.findings.iter().map(|one| {
        let mut evidence = one.evidence.clone();
        if let (Some(fields), Some(nature)) = (evidence.as_object_mut(), one.nature) {
            fields.insert("nature".to_owned(), nature.word().into());
        }
        Row {
            subscription: status.subscription.clone(),
            severity: one.severity.word(),
            cause: Some(one.cause.word()),
            finding: one.finding.clone(),
            evidence,
            remedy: one.remedy.clone(),
        }
    });
    let mut rows: Vec<Row> = found.collect();
    if rows.is_empty() {
        rows.push(Row {
            subscription: status.subscription.clone(),
            severity: "info",
            cause: None,
            finding: match status.state {
                "streaming" => "It streams, and nothing is found to be wrong.".to_owned(),
                state => format!("It is {state}, and nothing is found to be wrong."),
            },
            evidence: serde_json::json!({"state": status.state, "lag_bytes": status.lag_bytes}),
            remedy: None,
        });
    }
    rows
}
