//! The ways to give existing rows their values that are compared.

use super::stand::TABLE;
use crate::variant::EXPRESSION;

/// Keys that a transaction of [`Way::Batches`] takes.
pub(super) const BATCH: u32 = 10_000;

/// Returns the duration of the longest transaction, in seconds.
pub(super) const CALL_BATCHES: &str = "call update_in_batches(0)";

/// In the order in which they are measured: those that are divided by one another first, within a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    OneUpdate,
    OneWorker,
    TwoWorkers,
    /// What a cron job runs every minute.
    WhereNull,
    /// A procedure that updates by ranges of the primary key and commits after each.
    Batches,
}

impl Way {
    pub(super) const ALL: [Self; 5] = [
        Self::OneUpdate,
        Self::OneWorker,
        Self::TwoWorkers,
        Self::WhereNull,
        Self::Batches,
    ];

    /// In a report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OneUpdate => "one UPDATE",
            Self::OneWorker => "backfill, 1 worker",
            Self::TwoWorkers => "backfill, 2 workers",
            Self::WhereNull => "UPDATE … WHERE … IS NULL",
            Self::Batches => "UPDATE in batches",
        }
    }

    /// How many workers of a backfill; none where there is no rule.
    pub(super) fn workers(self) -> Option<u32> {
        match self {
            Self::OneWorker => Some(1),
            Self::TwoWorkers => Some(2),
            Self::OneUpdate | Self::WhereNull | Self::Batches => None,
        }
    }

    /// What has to be there before the time starts. The role is that of a backfill.
    pub(super) fn preparation(self) -> String {
        let role = "set session_replication_role = replica";
        match self {
            Self::Batches => format!("{role}; {}", batches()),
            _ => role.to_owned(),
        }
    }

    /// What is measured, where it is an UPDATE.
    pub(super) fn statement(self) -> String {
        let condition = match self {
            Self::WhereNull => " where loan_id is null",
            _ => "",
        };
        format!("update {TABLE} set loan_id = {EXPRESSION}{condition}")
    }
}

fn batches() -> String {
    format!(
        "create or replace procedure update_in_batches(inout longest float8) language plpgsql as $$
         declare
             last_key bigint := (select max(id) from {TABLE});
             done bigint := 0;
             started timestamptz;
         begin
             while done < last_key loop
                 started := clock_timestamp();
                 update {TABLE} set loan_id = {EXPRESSION} where id > done and id <= done + {BATCH};
                 commit;
                 longest := greatest(longest, extract(epoch from clock_timestamp() - started)::float8);
                 done := done + {BATCH};
             end loop;
         end $$"
    )
}
