//! The whole report.

use super::facts::Report;
use super::format::{duration, name, shorten};
use super::subscription::{self, Need, label};
use super::table::{self, enumerated};
use super::{derived, foreign_key, next, wrap};

/// The lines of the report, none longer than [`super::WIDTH`].
pub(crate) fn lines(report: &Report) -> Vec<String> {
    let need = need(report);
    let mut sections: Vec<Vec<String>> = Vec::new();
    if report.subscriptions.is_empty() {
        sections.push(beginning(report));
    } else {
        if need != Need::Nothing {
            sections.push(title(report));
        }
        sections.push(subscription::overview(report));
    }
    let (details, copies_shown) = subscription::details(report);
    sections.extend(details);
    sections.push(table::not_ready(report, copies_shown));
    sections.push(foreign_key::lines(report));
    sections.push(derived::columns(report));
    sections.push(derived::backfills(report));
    let notes = notes(report);
    sections.push(verdict(report, need, !notes.is_empty()));
    // What is missing is said before what it leaves to be said.
    let place = sections.len() - 1;
    sections.insert(place, notes);
    sections.retain(|section| !section.is_empty());

    // A short report needs no gaps.
    let separator = match need {
        Need::Nothing => Vec::new(),
        Need::Wait | Need::Act => vec![String::new()],
    };
    sections.join(&separator[..])
}

/// What the report as a whole comes to.
fn need(report: &Report) -> Need {
    let subscriptions = report.subscriptions.iter().map(|one| one.need(report.now));
    let tables = report.tables.iter().map(|table| match () {
        () if table.is_in_trouble() => Need::Act,
        () => Need::Wait,
    });
    let columns = report.columns.iter().map(|column| match () {
        () if column.is_live() => Need::Nothing,
        () if column.is_backfilling() => Need::Wait,
        () => Need::Act,
    });
    let backfills = report
        .backfills
        .iter()
        .map(|backfill| match backfill.error {
            Some(_) => Need::Act,
            None => Need::Wait,
        });
    let keys = report.detached_keys.iter().map(|key| match () {
        () if key.is_due(report) => Need::Act,
        () => Need::Wait,
    });
    subscriptions
        .chain(keys)
        .chain(tables)
        .chain(columns)
        .chain(backfills)
        .min()
        .unwrap_or(Need::Nothing)
}

fn beginning(report: &Report) -> Vec<String> {
    const HOW: [&str; 2] = [
        "  CREATE SUBSCRIPTION sub CONNECTION 'host=... dbname=... user=...' PUBLICATION pub;",
        "  SELECT pglogical.create_subscription('sub', 'host=... dbname=... user=...');",
    ];
    let database = shorten(&name(&report.database), 40);
    let mut lines = vec![format!(
        "There is no subscription in database {database}. Begin with one of:"
    )];
    lines.extend(HOW.map(str::to_owned));
    lines
}

/// Where this is, and how many subscriptions are how.
fn title(report: &Report) -> Vec<String> {
    let server_version = report.server_version.split(' ').next().unwrap_or_default();
    let mut text = format!(
        "{}, PostgreSQL {server_version}, replwarden {}",
        shorten(&name(&report.database), 40),
        report.version
    );
    if report.subscriptions.len() > 1 {
        let mut states: Vec<(Need, &str, usize)> = Vec::new();
        for one in &report.subscriptions {
            match states.iter_mut().find(|(_, state, _)| *state == one.state) {
                Some((_, _, number)) => *number += 1,
                None => states.push((one.need(report.now), &one.state, 1)),
            }
        }
        states.sort();
        let states: Vec<String> = states
            .iter()
            .map(|(_, state, number)| format!("{number} {state}"))
            .collect();
        text.push_str(": ");
        text.push_str(&states.join(", "));
    }
    wrap::text("", 2, &text)
}

/// What cannot be known at the moment, and why.
fn notes(report: &Report) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    if report.standby {
        notes.push(
            "This server is a standby: what replicates runs on the primary, and nobody watches here.".to_owned(),
        );
    } else if !report.preloaded {
        notes.push(
            "replwarden is not preloaded. So lag, slots and speeds over the last samples are not known, and backfills do not \
             go on by themselves after a restart. To change that, set shared_preload_libraries = 'replwarden' (beside what is \
             there) and restart the server."
                .to_owned(),
        );
    } else if let Some(note) = idle_worker(report) {
        notes.push(note);
    }
    if report.preloaded && !report.probing && !report.standby {
        notes.push(
            "The publisher is not asked (replwarden.probe_publisher is off), so the lag and its slot are not known."
                .to_owned(),
        );
    } else if notes.is_empty() {
        notes.extend(silent_publishers(report));
    }
    notes
        .iter()
        .flat_map(|note| wrap::text("note: ", 6, note))
        .collect()
}

/// Why nothing newer is known than what the catalogs say.
fn idle_worker(report: &Report) -> Option<String> {
    const CONSEQUENCE: &str = "lag, slots and speeds are not known. The server log says more; max_worker_processes may be too small.";
    let Some(sampled_at) = report.sampled_at else {
        return Some(format!(
            "The worker of this database has not looked at anything yet. If that stays so, it is not at work, and \
             {CONSEQUENCE}"
        ));
    };
    let age = report.now - sampled_at;
    (age > 3.0 * report.watch_interval + 10.0).then(|| {
        format!(
            "The worker of this database is not at work: it last looked {} ago. So {CONSEQUENCE}",
            duration(age)
        )
    })
}

/// Of subscriptions whose own connection is up or not expected to be: of the others it is said anyway.
fn silent_publishers(report: &Report) -> Option<String> {
    let silent: Vec<_> = report
        .subscriptions
        .iter()
        .filter(|one| {
            let is_known = one.lag_bytes.is_some()
                || one.retained_bytes.is_some()
                || one.slot_active.is_some();
            let is_connected = matches!(
                one.state.as_str(),
                "streaming" | "catching_up" | "copying" | "stalled"
            );
            is_connected && !is_known
        })
        .collect();
    let labels: Vec<String> = silent
        .iter()
        .map(|one| label(report, &one.provider, &one.subscription))
        .collect();
    let answered = silent
        .iter()
        .filter_map(|one| one.asked_at)
        .reduce(f64::max);
    let age = match answered {
        _ if silent.is_empty() => return None,
        Some(at) => format!(
            "has not answered replwarden for {}",
            duration(report.now - at)
        ),
        None => "has not answered replwarden yet".to_owned(),
    };
    Some(format!(
        "The publisher of {} {age}, so the lag and its slot are not known.",
        enumerated(&labels)
    ))
}

fn verdict(report: &Report, need: Need, is_blind: bool) -> Vec<String> {
    let text = match need {
        // There is nothing that could be well.
        Need::Nothing if report.subscriptions.is_empty() => return Vec::new(),
        Need::Nothing if is_blind => "All is well, as far as the subscriber alone can tell.",
        Need::Nothing => "All is well.",
        Need::Wait => "Nothing has to be done: this goes on by itself.",
        Need::Act => {
            let steps = next::steps(report);
            if !steps.is_empty() {
                return steps;
            }
            "Next: look into the server log, here and on the publisher; no remedy is known."
        }
    };
    vec![text.to_owned()]
}

#[cfg(test)]
mod tests;
