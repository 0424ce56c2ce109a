//! What the two servers are like, and the way between them.

mod advice;
mod capacity;
mod connection;
mod facts;
mod limits;
mod owner;
mod pair;
mod pglogical;
mod publisher;
mod slots;
mod subscriber;
mod way;

use super::Plan;
use super::line::{Line, Severity};
use crate::error::Error;
use crate::subscription::publisher::{Approach, Inquiry};
use facts::{Answers, Here, Pglogical, Size, There};

/// All that is known when the publisher has answered.
struct Case<'a> {
    plan: &'a Plan,
    here: &'a Here,
    there: &'a There,
    /// What pglogical says there, if that is the provider.
    pglogical: Option<&'a Result<Pglogical, String>>,
    size: &'a Result<Size, String>,
    /// Nothing of what goes between both leaves this machine.
    is_local: bool,
}

/// Of this server alone.
const HERE: &[fn(&Plan, &Here) -> Vec<Line>] = &[
    subscriber::recovery,
    subscriber::replwarden_preload,
    subscriber::pglogical,
    capacity::replication_workers,
    capacity::worker_processes,
    capacity::origins,
    limits::wal_receiver_timeout,
    owner::settings,
    owner::password,
    owner::set_role,
    subscriber::synchronous_commit,
    subscriber::track_commit_timestamp,
];

/// Of the publisher, and of both.
const PAIR: &[fn(&Case) -> Vec<Line>] = &[
    publisher::version,
    publisher::recovery,
    publisher::wal_level,
    pglogical::installed,
    pglogical::output_plugin,
    pglogical::nodes,
    publisher::publications,
    slots::own_slot,
    capacity::replication_slots,
    capacity::wal_senders,
    publisher::role,
    slots::other_slots,
    limits::transactions,
    limits::prepared_transactions,
    limits::wal_retention,
    limits::wal_sender_timeout,
    limits::idle_slot_timeout,
    limits::statement_timeout,
    limits::decoding_memory,
    pair::disk_space,
    pair::encoding,
    pair::collation,
    pair::extensions,
];

/// Adds what is found to `lines`. Gives the connection with the publisher, and its version (`server_version_num`).
pub(super) fn lines(plan: &Plan, lines: &mut Vec<Line>) -> Result<Option<(Inquiry, i32)>, Error> {
    let here = Here::look(plan)?;
    let publisher = match Inquiry::open(&plan.conninfo, plan.must_use_password) {
        Ok(mut inquiry) => match Answers::ask(plan, &mut inquiry) {
            Ok(answers) => Some((inquiry, answers)),
            Err(unheard) => {
                lines.push(connection::unanswered(&unheard));
                None
            }
        },
        Err(unheard) => {
            lines.push(connection::failed(plan, &unheard));
            None
        }
    };
    if publisher.is_none() {
        lines.push(Line::not_checked(
            "publisher",
            "its settings and what it publishes, since it gives no answer.",
        ));
    }
    if let Some((inquiry, answers)) = &publisher {
        lines.push(way::connected(plan, inquiry, &answers.there));
        lines.extend(way::same_server(plan, &here, &answers.there));
        lines.extend(replication(plan));
        let is_local = way::is_local(inquiry);
        lines.push(way::encryption(plan, inquiry.is_encrypted(), is_local));
        lines.push(way::options(plan, is_local));
    }
    lines.extend(way::local_node(plan, &here));
    if let Some((inquiry, answers)) = &publisher {
        let case = Case {
            plan,
            here: &here,
            there: &answers.there,
            pglogical: answers.pglogical.as_ref(),
            size: &answers.size,
            is_local: way::is_local(inquiry),
        };
        lines.extend(PAIR.iter().flat_map(|check| check(&case)));
    }
    lines.extend(HERE.iter().flat_map(|check| check(plan, &here)));
    Ok(publisher.map(|(inquiry, answers)| (inquiry, answers.there.version)))
}

/// A subscription's own kind of connection, tried: another right, and another pool.
fn replication(plan: &Plan) -> Vec<Line> {
    let approach = Approach::new(&plan.conninfo, plan.must_use_password)
        .with_keywords(&[(c"replication", c"database")]);
    match Inquiry::connect(approach) {
        Ok(_) => vec![Line::ok(
            "replication_connection",
            "The publisher lets in a replication connection, with a walsender of its own."
                .to_owned(),
        )],
        Err(unheard) => vec![Line {
            check_name: "replication_connection",
            ..connection::failed(plan, &unheard)
        }],
    }
}

/// A line that is the only one.
fn one(line: Line) -> Vec<Line> {
    vec![line]
}

/// As `severity` has it, or fine.
fn judged(severity: Option<Severity>, check_name: &'static str, finding: String) -> Line {
    Line::new(severity.unwrap_or(Severity::Ok), check_name, finding)
}

#[cfg(test)]
mod testing {
    use super::*;

    /// What a check says; `size`: of what is published.
    pub(super) fn lines_of(
        check: fn(&Case) -> Vec<Line>,
        plan: &Plan,
        here: &Here,
        there: &There,
        size: &Result<Size, String>,
    ) -> Vec<Line> {
        check(&Case {
            plan,
            here,
            there,
            pglogical: None,
            size,
            is_local: false,
        })
    }
}
