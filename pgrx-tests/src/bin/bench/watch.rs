//! The section `watch`: what the worker of a database costs that looks at fifty subscriptions, one of which has ten thousand
//! tables, while nothing happens: CPU, memory, transaction ids, WAL.

mod report;

use std::fs;
use std::time::Instant;

use postgres::Client;
use postgres_types::PgLsn;
use replwarden_tests::{DEFAULT_DEADLINE, wait_for_value};

use crate::arguments::Arguments;
use crate::cpu;
use crate::environment::Environment;
use crate::stand::reason;
use crate::status::stand::{DATABASE, Stage, Stand};

/// The interval that the CPU is measured at, and the one by which an hour becomes minutes.
const INTERVAL: &str = "1s";
const SHORT_INTERVAL: &str = "20ms";

/// Looks that are not counted: the worker fills its caches. What came before is over when no WAL was written meanwhile: the
/// server writes down every 15 seconds what is running, as long as there was something to write.
const SETTLING: u32 = 30;
const MOST_SETTLING: u32 = 10 * SETTLING;

/// Looks at [`INTERVAL`].
const LOOKS: u32 = 60;

/// How often the memory is read, besides the beginning.
const READINGS: u32 = 8;

/// What has changed over some looks.
struct Cost {
    /// At least so many: some may have come between two readings.
    looks: u32,
    seconds: f64,
    /// Seconds of the worker.
    cpu: f64,
    transaction_ids: i64,
    wal_bytes: u64,
}

impl Cost {
    fn share_of_a_core(&self) -> f64 {
        self.cpu / self.seconds
    }
}

/// Resident memory that is no other process's, in kB, after so many looks.
struct Memory {
    looks: u32,
    kilobytes: u64,
}

struct Results {
    tables: u32,
    usual: Cost,
    compressed: Cost,
    memory: Vec<Memory>,
}

/// Measures, and returns the report.
pub(crate) fn run(arguments: &Arguments, load: f64) -> Result<String, String> {
    let tables = arguments.status_tables;
    let mut stand = Stand::build(tables)?;
    stand.advance(Stage {
        tables,
        is_copied: true,
    });
    stand.stream_all();
    let mut witness = Witness::of(&stand)?;

    stand.cluster().set("replwarden.watch_interval", INTERVAL);
    // Else whoever reads what was updated would tidy it up, which writes WAL.
    stand.vacuum();
    witness.settle()?;
    let usual = witness.cost_of(|witness| witness.wait_looks(LOOKS))?;
    eprintln!(
        "  at {INTERVAL}: {:.2} % of a core, {:.2} ms of CPU for a look",
        usual.share_of_a_core() * 1e2,
        usual.cpu * 1e3 / f64::from(usual.looks)
    );

    stand
        .cluster()
        .set("replwarden.watch_interval", SHORT_INTERVAL);
    witness.wait_looks(SETTLING)?;
    let mut memory = vec![witness.memory(0)?];
    let compressed = witness.cost_of(|witness| {
        for reading in 1..=READINGS {
            let looks = arguments.watch_looks * reading / READINGS;
            let before = memory.last().map_or(0, |last| last.looks);
            witness.wait_looks(looks - before)?;
            let now = witness.memory(looks)?;
            eprintln!("  after {looks} looks: {} kB", now.kilobytes);
            memory.push(now);
        }
        Ok(())
    })?;
    let results = Results {
        tables,
        usual,
        compressed,
        memory,
    };
    let environment = Environment::look(stand.cluster(), None, load)?;
    Ok(report::render(&results, &environment))
}

/// Looks at the worker from outside.
struct Witness {
    session: Client,
    worker: u32,
    /// When the worker has looked last, as it says.
    seen: Option<String>,
    looks: u32,
}

impl Witness {
    fn of(stand: &Stand) -> Result<Self, String> {
        let mut session = stand.session()?;
        let sql = "select pid from pg_stat_activity where backend_type = 'replwarden worker' and datname = $1";
        let worker: i32 = session.query_one(sql, &[&DATABASE]).map_err(reason)?.get(0);
        Ok(Self {
            session,
            worker: u32::try_from(worker).map_err(|error| error.to_string())?,
            seen: None,
            looks: 0,
        })
    }

    fn wait_looks(&mut self, number: u32) -> Result<(), String> {
        for _ in 0..number {
            let last = self.seen.clone();
            let seen = wait_for_value(
                "the worker looks again",
                DEFAULT_DEADLINE,
                || self.last_look(),
                |seen| {
                    seen.as_ref()
                        .map_or(true, |seen| seen.is_some() && *seen != last)
                },
            )?;
            self.seen = seen;
            self.looks += 1;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        let first = self.looks;
        while self.looks - first < MOST_SETTLING {
            let before = self.written()?;
            self.wait_looks(SETTLING)?;
            if self.written()? == before {
                return Ok(());
            }
        }
        eprintln!("  WAL is written all the time");
        Ok(())
    }

    fn last_look(&mut self) -> Result<Option<String>, String> {
        let sql = "select repl_snapshot() #>> '{installation,sampled_at}'";
        let row = self.session.query_one(sql, &[]).map_err(reason)?;
        Ok(row.get(0))
    }

    fn cost_of(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<Cost, String> {
        let (looks, before) = (self.looks, self.written()?);
        let (started, cpu) = (Instant::now(), cpu::of_process(self.worker)?);
        act(self)?;
        let (seconds, cpu) = (
            started.elapsed().as_secs_f64(),
            cpu::of_process(self.worker)? - cpu,
        );
        let after = self.written()?;
        Ok(Cost {
            looks: self.looks - looks,
            seconds,
            cpu,
            transaction_ids: after.0 - before.0,
            wal_bytes: after.1 - before.1,
        })
    }

    /// The next transaction id, and the end of the WAL. Takes no transaction id itself.
    fn written(&mut self) -> Result<(i64, u64), String> {
        let sql = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_wal_insert_lsn()";
        let row = self.session.query_one(sql, &[]).map_err(reason)?;
        Ok((row.get(0), row.get::<_, PgLsn>(1).into()))
    }

    fn memory(&self, looks: u32) -> Result<Memory, String> {
        let path = format!("/proc/{}/status", self.worker);
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let kilobytes = text
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|value| value.split_whitespace().next())
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| format!("{path} has no RssAnon"))?;
        Ok(Memory { looks, kilobytes })
    }
}
