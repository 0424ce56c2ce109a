//! What a replication waits for, and what may end it: transactions, time-outs, the WAL that is kept.

use super::super::Plan;
use super::super::line::{Line, Node, Severity};
use super::advice::{From, counted, shown};
use super::facts::Here;
use super::{Case, judged, one};
use crate::subscription::quote::{identifier, literal};
use crate::subscription::unit::{bytes, duration};

/// In seconds: what keeps a slot from being made for longer is worth a look.
const LONG_TRANSACTION: f64 = 60.0;
/// Nobody sits before a prepared transaction.
const LONG_PREPARED: f64 = 10.0;
/// A network between two clouds may be silent for longer than less than that.
const SHORT_TIMEOUT: f64 = 60.0;
const ADVISED_TIMEOUT: &str = "'5min'";
const DAY: f64 = 86_400.0;
/// Its default.
const LITTLE_MEMORY: i64 = 64 << 20;

/// A slot that is made waits for all transactions that have written something, and each table's copy makes one.
pub(super) fn transactions(case: &Case) -> Vec<Line> {
    const NAME: &str = "old_transactions";
    let seen = &case.there.transactions;
    if seen.hidden > 0 {
        return one(Line::not_checked(
            NAME,
            &format!(
                "how long other users' transactions have been writing ({}): \"{}\" is no member of pg_read_all_stats there.",
                seen.hidden,
                shown(&case.there.user)
            ),
        ));
    }
    let finding = match seen.seconds {
        Some(seconds) => format!(
            "Writing now on the publisher: {}, the oldest since {}.",
            counted(seen.count, "transaction"),
            duration(seconds)
        ),
        None => "No transaction of the publisher writes now.".to_owned(),
    };
    let is_long = seen
        .seconds
        .is_some_and(|seconds| seconds > LONG_TRANSACTION);
    let severity = (is_long && case.plan.copies()).then_some(Severity::Warning);
    let line = judged(severity, NAME, finding);
    one(match seen.pid.filter(|_| severity.is_some()) {
        Some(pid) => Line {
            finding: format!("{} A new slot waits for it.", line.finding),
            ..line
        }
        .remedy(
            Node::Publisher,
            &format!(
                "SELECT pid, usename, state, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start;\n\
                 -- let them end, or end the oldest: SELECT pg_terminate_backend({pid});"
            ),
        ),
        None => line,
    })
}

pub(super) fn prepared_transactions(case: &Case) -> Vec<Line> {
    const NAME: &str = "prepared_transactions";
    let prepared = &case.there.prepared;
    let old = prepared.iter().filter(|one| one.seconds > LONG_PREPARED);
    let lines: Vec<Line> = old
        .filter(|_| case.plan.copies())
        .map(|one| {
            let line = Line::new(
                Severity::Warning,
                NAME,
                format!(
                    "Transaction {} of database \"{}\" on the publisher is prepared since {}: a new slot waits for it.",
                    literal(&shown(&one.gid)),
                    shown(&one.database),
                    duration(one.seconds)
                ),
            )
            .on(&shown(&one.gid));
            line.naming(
                Node::Publisher,
                &[&one.gid],
                &format!(
                    "-- in its database; or COMMIT PREPARED, as whoever has prepared it decides:\nROLLBACK PREPARED {};",
                    literal(&one.gid)
                ),
            )
        })
        .collect();
    if !lines.is_empty() {
        return lines;
    }
    one(Line::ok(
        NAME,
        format!(
            "The publisher has {}.",
            counted(prepared.len() as i64, "prepared transaction")
        ),
    ))
}

/// While tables are copied, the slot keeps all the WAL that is written meanwhile.
pub(super) fn wal_retention(case: &Case) -> Vec<Line> {
    const NAME: &str = "max_slot_wal_keep_size";
    let settings = &case.there.settings;
    let Some(limit) = settings.bytes(NAME) else {
        return one(Line::ok(
            NAME,
            "Nothing but its disk limits the WAL that the publisher keeps for the slot.".to_owned(),
        ));
    };
    let size = match case.size {
        Ok(size) => size.bytes,
        Err(why) => return one(Line::not_checked(NAME, &format!("{}.", shown(why)))),
    };
    let finding = format!(
        "The publisher keeps {} of WAL for a slot (max_slot_wal_keep_size), and {} are published.",
        bytes(limit),
        bytes(size)
    );
    one(if case.plan.copies() && limit < size {
        Line::new(
            Severity::Warning,
            NAME,
            format!("{finding} If more is written while the tables are copied, the slot is lost."),
        )
        .set_there(case.there, NAME, "-1", From::Reload)
    } else {
        Line::ok(NAME, finding)
    })
}

pub(super) fn wal_sender_timeout(case: &Case) -> Vec<Line> {
    const NAME: &str = "wal_sender_timeout";
    let Some(seconds) = case.there.settings.seconds(NAME) else {
        return one(Line::not_checked(NAME, "the publisher does not show it."));
    };
    let line = timeout(NAME, "the publisher", seconds, case.is_local);
    one(match line.severity {
        Severity::Ok => line,
        _ => line.set_there(case.there, NAME, ADVISED_TIMEOUT, From::Reload),
    })
}

pub(super) fn wal_receiver_timeout(_: &Plan, here: &Here) -> Vec<Line> {
    const NAME: &str = "wal_receiver_timeout";
    let Some(seconds) = here.settings.seconds(NAME) else {
        return one(Line::not_checked(NAME, "this server does not show it."));
    };
    let line = timeout(NAME, "this server", seconds, true);
    one(match line.severity {
        Severity::Ok => line,
        _ => line.set_here(NAME, ADVISED_TIMEOUT, From::Reload),
    })
}

fn timeout(name: &'static str, whose: &str, seconds: f64, is_local: bool) -> Line {
    if seconds == 0.0 {
        return Line::new(
            Severity::Info,
            name,
            format!("{name} of {whose} is off: a connection that died is noticed by TCP only."),
        );
    }
    let length = if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else {
        duration(seconds)
    };
    let finding = format!("{name} of {whose} is {length}");
    if seconds < SHORT_TIMEOUT {
        Line::new(
            Severity::Warning,
            name,
            format!(
                "{finding}: a large transaction or a slow network ends the connection, again and again."
            ),
        )
    } else if seconds == SHORT_TIMEOUT && !is_local {
        Line::new(
            Severity::Info,
            name,
            format!("{finding}: between two clouds some minutes are better."),
        )
    } else {
        Line::ok(name, format!("{finding}."))
    }
}

/// 18+. pglogical reads its slot only after all tables are copied.
pub(super) fn idle_slot_timeout(case: &Case) -> Vec<Line> {
    const NAME: &str = "idle_replication_slot_timeout";
    let Some(seconds) = case.there.settings.seconds(NAME) else {
        return one(Line::ok(
            NAME,
            format!(
                "PostgreSQL {} drops no slot for being idle.",
                case.there.server_version
            ),
        ));
    };
    one(if seconds == 0.0 {
        Line::ok(
            NAME,
            "The publisher drops no slot for being idle.".to_owned(),
        )
    } else if seconds < DAY {
        Line::new(
            Severity::Warning,
            NAME,
            format!(
                "The publisher drops a slot that nobody reads for {}: a subscription that is down so long is lost.",
                duration(seconds)
            ),
        )
        .set_there(case.there, NAME, "0", From::Reload)
    } else {
        Line::new(
            Severity::Info,
            NAME,
            format!(
                "The publisher drops a slot that nobody reads for {}.",
                duration(seconds)
            ),
        )
    })
}

/// The copy of a table is one statement there, in one transaction. pglogical switches it off for itself.
pub(super) fn statement_timeout(case: &Case) -> Vec<Line> {
    const NAME: &str = "publisher_timeouts";
    let there = case.there;
    if !case.plan.is_native() {
        return Vec::new();
    }
    let names = ["statement_timeout", "transaction_timeout"];
    let set: Vec<(&str, f64)> = names
        .into_iter()
        .filter_map(|name| Some((name, there.settings.seconds_at_start(name)?)))
        .filter(|(_, seconds)| *seconds > 0.0)
        .collect();
    if set.is_empty() || !case.plan.copies() {
        return one(Line::ok(
            NAME,
            format!(
                "No time-out of the publisher ends the copy of a table (role \"{}\").",
                shown(&there.user)
            ),
        ));
    }
    set.into_iter()
        .map(|(name, seconds)| {
            let line = Line::new(
                Severity::Warning,
                NAME,
                format!(
                    "{name} of role \"{}\" on the publisher is {}: the copy of a table that takes longer ends, and begins anew.",
                    shown(&there.user),
                    duration(seconds)
                ),
            )
            .on(name);
            line.naming(
                Node::Publisher,
                &[&there.user, &there.database.name],
                &format!(
                    "ALTER ROLE {} IN DATABASE {} SET {name} = 0;",
                    identifier(&there.user),
                    identifier(&there.database.name)
                ),
            )
        })
        .collect()
}

pub(super) fn decoding_memory(case: &Case) -> Vec<Line> {
    const NAME: &str = "logical_decoding_work_mem";
    let Some(memory) = case.there.settings.bytes(NAME) else {
        return one(Line::ok(
            NAME,
            format!(
                "PostgreSQL {} has no such setting: it writes a transaction of more than 4096 changes to disk.",
                case.there.server_version
            ),
        ));
    };
    let finding = format!(
        "The publisher decodes transactions of up to {} in memory (logical_decoding_work_mem)",
        bytes(memory)
    );
    one(if memory < LITTLE_MEMORY {
        Line::new(
            Severity::Info,
            NAME,
            format!("{finding}, and writes larger ones to disk first."),
        )
        .set_there(case.there, NAME, "'64MB'", From::Reload)
    } else {
        Line::ok(NAME, format!("{finding}."))
    })
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Settings, Size, There, Transactions};
    use super::super::testing::lines_of;
    use super::*;
    use crate::subscription::provider::Subscription;

    fn native() -> Plan {
        Plan {
            provider: "native",
            ..Plan::default()
        }
    }

    /// All its tables are ready.
    fn streaming() -> Plan {
        Plan {
            subscription: Some(Subscription::default()),
            ..native()
        }
    }

    fn with(name: &str, value: &str, unit: &str) -> There {
        There {
            settings: Settings::default().set(name, value, Some(unit)),
            ..There::default()
        }
    }

    fn severity(check: fn(&Case) -> Vec<Line>, plan: &Plan, there: &There) -> Severity {
        let size = Ok(Size {
            bytes: 50 << 20,
            ..Size::default()
        });
        let lines = lines_of(check, plan, &Here::default(), there, &size);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].severity
    }

    #[test]
    fn old_transaction_matters_as_long_as_slots_are_to_be_made() {
        for (seconds, hidden, plan, expected) in [
            (None, 0, native(), Severity::Ok),
            (Some(59.0), 0, native(), Severity::Ok),
            (Some(61.0), 0, native(), Severity::Warning),
            (Some(61.0), 0, streaming(), Severity::Ok),
            (None, 1, native(), Severity::Info),
        ] {
            let there = There {
                transactions: Transactions {
                    count: 1,
                    hidden,
                    pid: Some(7),
                    seconds,
                },
                ..There::default()
            };
            assert_eq!(severity(transactions, &plan, &there), expected, "{there:?}");
        }
    }

    #[test]
    fn wal_of_the_copy_has_to_be_kept() {
        for (value, plan, expected) in [
            ("-1", native(), Severity::Ok),
            ("49", native(), Severity::Warning),
            ("50", native(), Severity::Ok),
            ("1", streaming(), Severity::Ok),
        ] {
            let there = with("max_slot_wal_keep_size", value, "MB");
            assert_eq!(severity(wal_retention, &plan, &there), expected, "{value}");
        }
    }

    #[test]
    fn minute_is_short_between_clouds() {
        for (value, expected) in [
            ("0", Severity::Info),
            ("59999", Severity::Warning),
            ("60000", Severity::Info),
            ("300000", Severity::Ok),
        ] {
            let there = with("wal_sender_timeout", value, "ms");
            assert_eq!(
                severity(wal_sender_timeout, &native(), &there),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn idle_slot_may_be_dropped_after_days() {
        for (value, unit, expected) in [
            ("0", "s", Severity::Ok),
            ("3600", "s", Severity::Warning),
            ("2880", "min", Severity::Info),
        ] {
            let there = with("idle_replication_slot_timeout", value, unit);
            assert_eq!(
                severity(idle_slot_timeout, &native(), &there),
                expected,
                "{value}"
            );
        }
        assert_eq!(
            severity(idle_slot_timeout, &native(), &There::default()),
            Severity::Ok
        );
    }

    #[test]
    fn copies_are_one_statement_there() {
        for (value, plan, expected) in [
            ("0", native(), Severity::Ok),
            ("60000", native(), Severity::Warning),
            ("60000", streaming(), Severity::Ok),
        ] {
            let there = with("statement_timeout", value, "ms");
            assert_eq!(
                severity(statement_timeout, &plan, &there),
                expected,
                "{value}"
            );
        }
    }
}
