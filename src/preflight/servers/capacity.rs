//! Whether there is room for one more subscription on both sides: slots, walsenders, workers, origins.

use super::super::Plan;
use super::super::line::{Line, Severity};
use super::advice::From;
use super::facts::Here;
use super::{Case, one};

/// From here on origins have a limit of their own.
const OWN_ORIGIN_LIMIT: i32 = 180_000;
/// pglogical copies one table after the other.
const COPIES_OF_PGLOGICAL: i64 = 1;

/// What is still to come of a subscription.
struct Need {
    /// For its stream: 0 or 1.
    stream: i64,
    /// For tables that are copied at the same time.
    copies: i64,
}

impl Need {
    fn total(&self) -> i64 {
        self.stream + self.copies
    }

    /// `is_there`: what its stream takes is taken.
    fn of(plan: &Plan, here: &Here, is_there: bool) -> Self {
        let at_once = match plan.is_native() {
            true => here
                .settings
                .number("max_sync_workers_per_subscription")
                .unwrap_or(0),
            false => COPIES_OF_PGLOGICAL,
        };
        let copies = match &plan.subscription {
            None => at_once,
            Some(one) => {
                let left = i64::from(one.tables_total - one.tables_ready);
                let running = one.sync_workers.len() as i64;
                (left.min(at_once) - running).max(0)
            }
        };
        Self {
            stream: i64::from(!is_there),
            copies,
        }
    }
}

fn has_worker(plan: &Plan) -> bool {
    let subscription = plan.subscription.as_ref();
    subscription.is_some_and(|one| one.worker.is_some())
}

/// A setting that limits how many of something there may be.
struct Pool {
    check_name: &'static str,
    setting: &'static str,
    limit: i64,
    used: i64,
    whose: &'static str,
}

impl Pool {
    /// With the value that would be enough, if this is not.
    fn judge(&self, need: &Need) -> (Line, Option<String>) {
        let free = (self.limit - self.used).max(0);
        let finding = format!(
            "{} of {} is {}: {free} free, {} needed",
            self.setting,
            self.whose,
            self.limit,
            need.total()
        );
        let severity = if free < need.stream {
            Severity::Error
        } else if free < need.total() {
            Severity::Warning
        } else {
            return (Line::ok(self.check_name, format!("{finding}.")), None);
        };
        let line = match severity {
            Severity::Error => format!("{finding}: the subscription cannot stream."),
            _ => format!(
                "{finding} to copy as many tables at once as allowed: they wait for each other."
            ),
        };
        let enough = (self.used + need.total()).max(self.limit + 4);
        (
            Line::new(severity, self.check_name, line),
            Some(enough.to_string()),
        )
    }

    fn judge_here(&self, need: &Need) -> Vec<Line> {
        let (line, enough) = self.judge(need);
        one(match enough {
            Some(enough) => line.set_here(self.setting, &enough, From::Restart),
            None => line,
        })
    }

    fn judge_there(&self, case: &Case, need: &Need) -> Vec<Line> {
        let (line, enough) = self.judge(need);
        one(match enough {
            Some(enough) => line.set_there(case.there, self.setting, &enough, From::Restart),
            None => line,
        })
    }
}

fn unknown(check_name: &'static str) -> Vec<Line> {
    one(Line::not_checked(
        check_name,
        "the server does not show it.",
    ))
}

pub(super) fn replication_slots(case: &Case) -> Vec<Line> {
    const NAME: &str = "max_replication_slots";
    let Some(limit) = case.there.settings.number(NAME) else {
        return unknown("replication_slots");
    };
    let pool = Pool {
        check_name: "replication_slots",
        setting: NAME,
        limit,
        used: case.there.slots.len() as i64,
        whose: "the publisher",
    };
    // One that is lost is told of as such.
    let need = Need::of(case.plan, case.here, case.plan.subscription.is_some());
    pool.judge_there(case, &need)
}

pub(super) fn wal_senders(case: &Case) -> Vec<Line> {
    const NAME: &str = "max_wal_senders";
    let Some(limit) = case.there.settings.number(NAME) else {
        return unknown("wal_senders");
    };
    let pool = Pool {
        check_name: "wal_senders",
        setting: NAME,
        limit,
        used: case.there.walsenders,
        whose: "the publisher",
    };
    pool.judge_there(case, &Need::of(case.plan, case.here, has_worker(case.plan)))
}

/// Native. Those that run, and those that other subscriptions have a right to.
pub(super) fn replication_workers(plan: &Plan, here: &Here) -> Vec<Line> {
    const NAME: &str = "max_logical_replication_workers";
    const COPIES: &str = "max_sync_workers_per_subscription";
    if !plan.is_native() {
        return Vec::new();
    }
    let (Some(limit), Some(copies)) = (here.settings.number(NAME), here.settings.number(COPIES))
    else {
        return unknown("replication_workers");
    };
    let has_worker = has_worker(plan);
    let pool = Pool {
        check_name: "replication_workers",
        setting: NAME,
        limit,
        used: here
            .replication_workers
            .max(here.other_subscriptions + i64::from(has_worker)),
        whose: "this server",
    };
    let mut lines = pool.judge_here(&Need::of(plan, here, has_worker));
    if copies == 0 && plan.copies() {
        lines.push(
            Line::new(
                Severity::Error,
                "sync_workers",
                "max_sync_workers_per_subscription of this server is 0: no table is ever copied."
                    .to_owned(),
            )
            .set_here(COPIES, "2", From::Reload),
        );
    } else {
        lines.push(Line::ok(
            "sync_workers",
            format!("So many tables of a subscription are copied at once: {copies} (max_sync_workers_per_subscription)."),
        ));
    }
    lines
}

/// Background workers of all kinds share this one.
pub(super) fn worker_processes(plan: &Plan, here: &Here) -> Vec<Line> {
    const NAME: &str = "max_worker_processes";
    let Some(limit) = here.settings.number(NAME) else {
        return unknown("worker_processes");
    };
    let pool = Pool {
        check_name: "worker_processes",
        setting: NAME,
        limit,
        used: here.background_workers,
        whose: "this server",
    };
    pool.judge_here(&Need::of(plan, here, has_worker(plan)))
}

pub(super) fn origins(plan: &Plan, here: &Here) -> Vec<Line> {
    let setting = if here.version >= OWN_ORIGIN_LIMIT {
        "max_active_replication_origins"
    } else {
        "max_replication_slots"
    };
    let Some(limit) = here.settings.number(setting) else {
        return unknown("replication_origins");
    };
    let pool = Pool {
        check_name: "replication_origins",
        setting,
        limit,
        used: here.origins,
        whose: "this server",
    };
    pool.judge_here(&Need::of(plan, here, plan.subscription.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(limit: i64, used: i64) -> Pool {
        Pool {
            check_name: "wal_senders",
            setting: "max_wal_senders",
            limit,
            used,
            whose: "the publisher",
        }
    }

    #[test]
    fn stream_comes_before_copies() {
        let need = Need {
            stream: 1,
            copies: 2,
        };
        for (limit, used, severity, enough) in [
            (10, 7, Severity::Ok, None),
            (10, 8, Severity::Warning, Some("14")),
            (10, 10, Severity::Error, Some("14")),
            (1, 10, Severity::Error, Some("13")),
        ] {
            let (line, value) = pool(limit, used).judge(&need);
            assert_eq!(line.severity, severity, "{line:?}");
            assert_eq!(value.as_deref(), enough, "{line:?}");
        }
        let nothing = Need {
            stream: 0,
            copies: 0,
        };
        assert_eq!(pool(2, 2).judge(&nothing).0.severity, Severity::Ok);
    }
}
