//! The initial copy of a table by a tablesync worker.

use replwarden_tests::{DEFAULT_DEADLINE, wait_until};

use crate::cpu::{self, Cost};
use crate::stand::{Stand, reason};
use crate::variant::Variant;

/// Waits for a tablesync worker and for the end of its copy (state `f`, then `s` and `r`), and says who it was and how
/// long it took from its start. In the server, because the harness looks too seldom for a copy of a second.
const WATCH: &str = "
create function pg_temp.watch_copy(copied regclass) returns table (worker int, seconds float8)
language plpgsql as $$
declare
    started timestamptz;
begin
    loop
        perform pg_stat_clear_snapshot();
        select s.pid, a.backend_start into worker, started
          from pg_stat_subscription s join pg_stat_activity a on a.pid = s.pid
         where s.relid = copied;
        exit when found;
        perform pg_sleep(0.005);
    end loop;
    while (select srsubstate in ('i', 'd') from pg_subscription_rel where srrelid = copied) loop
        perform pg_sleep(0.005);
    end loop;
    seconds := extract(epoch from clock_timestamp() - started);
    return next;
end $$";

/// Copies a variant's rows, which the publisher has already, into the empty table.
///
/// A real tablesync worker rather than a COPY in a session, because receiving the rows is part of what users wait for.
/// Its CPU time is exact: when it has ended, the kernel adds it to that of the postmaster's ended children. No other
/// child ends meanwhile, because autovacuum is off and one session does all the asking.
pub(crate) fn measure(stand: &Stand, variant: Variant) -> Result<Cost, String> {
    let pair = stand.pair();
    let postmaster = pair
        .subscriber()
        .postmaster_pid()
        .ok_or("the subscriber is down")?;
    let table = variant.table();
    let mut session = pair.subscriber().connect(pair.database());
    session.batch_execute(WATCH).map_err(reason)?;
    session
        .batch_execute("set statement_timeout = '10min'")
        .map_err(reason)?;

    let before = cpu::of_ended_children(postmaster)?;
    // In this state the apply worker has the table copied anew.
    session
        .batch_execute(&format!(
            "begin;
             update pg_subscription_rel set srsubstate = 'i', srsublsn = null where srrelid = '{table}'::regclass;
             commit"
        ))
        .map_err(reason)?;
    let (worker, wall): (i32, f64) = session
        .query_one(
            &format!("select worker, seconds from pg_temp.watch_copy('{table}')"),
            &[],
        )
        .map(|row| (row.get(0), row.get(1)))
        .map_err(reason)?;
    wait_until("the tablesync worker has ended", DEFAULT_DEADLINE, || {
        cpu::has_ended(worker.unsigned_abs())
    });
    let cpu = cpu::of_ended_children(postmaster)? - before;
    pair.wait_copied();
    Ok(Cost { cpu, wall })
}
