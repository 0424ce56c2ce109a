//! The server that the status is measured on: many subscriptions, one of them with very many tables.

use std::fmt::Write as _;

use postgres::Client;
use replwarden_tests::{Cluster, DEFAULT_DEADLINE, wait_for_value, wait_until};

use crate::stand::{self, reason, server_with_extension};

pub(crate) const DATABASE: &str = "shop";

/// The large one among them.
pub(crate) const SUBSCRIPTIONS: u32 = 50;

/// Of each of the others.
pub(super) const FEW: u32 = 3;

/// Tables that are made or published in one transaction.
const BATCH: u32 = 200;

/// Room for a worker, a slot and a walsender of each subscription, and for the locks of all tables.
const SETTINGS: &[(&str, &str)] = &[
    ("max_connections", "100"),
    ("max_wal_senders", "60"),
    ("max_replication_slots", "60"),
    ("max_worker_processes", "80"),
    ("max_logical_replication_workers", "60"),
    ("max_locks_per_transaction", "256"),
    ("shared_preload_libraries", "replwarden"),
];

/// So that states other than `r` are there, some tables of the large subscription are still to be copied.
pub(super) const STATES: &str = "iidddfs";

/// How far the large subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stage {
    pub(crate) tables: u32,
    /// Whether all but a few are ready, or none is, as in the beginning of a migration.
    pub(crate) is_copied: bool,
}

impl Stage {
    /// In a report.
    pub(super) fn name(self) -> String {
        let tables = self.tables;
        if self.is_copied {
            format!("{tables} tables")
        } else {
            format!("{tables} tables, none ready")
        }
    }
}

pub(crate) struct Stand {
    cluster: Cluster,
    stage: Stage,
}

impl Stand {
    /// Starts a server that is publisher and subscriber at once, with the tables of all subscriptions, `largest` of them
    /// for the large one. Nothing is ever written to them. All subscriptions stream but the large one, which is disabled:
    /// else its workers would begin to copy.
    pub(crate) fn build(largest: u32) -> Result<Self, String> {
        let server = server_with_extension()?;
        eprintln!(
            "starting a server with {SUBSCRIPTIONS} subscriptions and {largest} tables in one of them, {}",
            server.version()
        );
        let mut builder = Cluster::builder("status").server(server);
        for &(name, value) in stand::SETTINGS.iter().chain(SETTINGS) {
            builder = builder.setting(name, value);
        }
        let cluster = builder.start();
        cluster.execute("postgres", &format!("create database {DATABASE}"));
        let stage = Stage {
            tables: 0,
            is_copied: true,
        };
        let stand = Self { cluster, stage };
        stand.run("create extension replwarden");
        stand.create_large(largest);
        for number in 1..SUBSCRIPTIONS {
            stand.create_small(number);
        }
        Ok(stand)
    }

    fn create_large(&self, largest: u32) {
        self.run("create schema large");
        for first in (1..=largest).step_by(BATCH as usize) {
            let last = (first + BATCH - 1).min(largest);
            let mut sql = String::new();
            for number in first..=last {
                let _ = writeln!(
                    sql,
                    "create table {} (id bigint primary key);",
                    large_table(number)
                );
            }
            self.run(&sql);
        }
        self.run("create publication large");
        self.create_subscription("large");
    }

    fn create_small(&self, number: u32) {
        let name = small(number);
        let tables: Vec<String> = (1..=FEW).map(|table| format!("{name}_{table}")).collect();
        for table in &tables {
            self.run(&format!("create table {table} (id bigint primary key)"));
        }
        self.run(&format!(
            "create publication {name} for table {}",
            tables.join(", ")
        ));
        self.create_subscription(&name);
        self.run(&format!(
            "insert into pg_subscription_rel (srsubid, srrelid, srsubstate, srsublsn)
             select s.oid, p.prrelid, 'r', pg_current_wal_lsn()
               from pg_subscription s, pg_publication_rel p
               join pg_publication on pg_publication.oid = p.prpubid
              where s.subname = '{name}' and pubname = '{name}'"
        ));
    }

    fn create_subscription(&self, name: &str) {
        self.run(&format!(
            "create subscription {name} connection '{}' publication {name}
             with (connect = false, enabled = false, slot_name = none)",
            self.cluster.conninfo(DATABASE)
        ));
    }

    /// Brings the large subscription up to a later stage, and returns when all is as it will stay: the server has been
    /// started anew, so that replwarden has asked the publisher which tables there are now.
    pub(crate) fn advance(&mut self, stage: Stage) {
        // Else each of their slots would decode what comes now, while something is measured.
        if self.stage.tables > 0 {
            self.stop_streams();
        }
        if stage.tables > self.stage.tables {
            self.add_tables(self.stage.tables, stage.tables);
        }
        if !stage.is_copied {
            self.run(
                "update pg_subscription_rel set srsubstate = 'i', srsublsn = null
                  where srsubid = (select oid from pg_subscription where subname = 'large')",
            );
        }
        self.stage = stage;
        self.analyze();
        self.start_streams();
        self.cluster.restart();
        self.wait_streaming(SUBSCRIPTIONS - 1);
    }

    /// The large subscription streams as well. Not to be advanced any more.
    pub(crate) fn stream_all(&self) {
        self.run(
            "update pg_subscription_rel set srsubstate = 'r', srsublsn = pg_current_wal_lsn()
              where srsubstate <> 'r'",
        );
        self.analyze();
        self.start_stream("large");
        self.wait_streaming(SUBSCRIPTIONS);
    }

    pub(crate) fn vacuum(&self) {
        self.run("vacuum");
        self.run("checkpoint");
    }

    fn wait_streaming(&self, number: u32) {
        wait_for_value(
            &format!("{number} subscriptions stream and their publisher has answered replwarden"),
            DEFAULT_DEADLINE,
            || {
                self.cluster.query_one_value::<i64>(
                    DATABASE,
                    "select count(*) from repl_subscriptions
                      where state = 'streaming' and asked_at is not null",
                )
            },
            |&streaming| streaming == i64::from(number),
        );
    }

    fn add_tables(&self, before: u32, after: u32) {
        let added: Vec<String> = (before + 1..=after).map(large_table).collect();
        self.run(&format!(
            "insert into pg_subscription_rel (srsubid, srrelid, srsubstate, srsublsn)
             select s.oid, name::regclass, coalesce(state, 'r')::\"char\",
                    case when state in ('i', 'd', 'f') then null else pg_current_wal_lsn() end
               from pg_subscription s,
                    (select name, nullif(substr('{STATES}', ({before} + place)::int, 1), '') as state
                       from unnest('{{{}}}'::text[]) with ordinality as added (name, place)) added
              where s.subname = 'large'",
            added.join(",")
        ));
        // In one statement they would take a minute: it compares each with all others.
        for batch in added.chunks(BATCH as usize) {
            self.run(&format!(
                "alter publication large add table {}",
                batch.join(", ")
            ));
        }
    }

    /// There is no autovacuum that would do it.
    fn analyze(&self) {
        for catalog in [
            "pg_subscription",
            "pg_subscription_rel",
            "pg_publication_rel",
            "pg_class",
            "pg_namespace",
        ] {
            self.run(&format!("vacuum (analyze) {catalog}"));
        }
    }

    /// A subscription to its own server cannot make its slot itself: the two would wait for one another.
    fn start_streams(&self) {
        for name in (1..SUBSCRIPTIONS).map(small) {
            self.start_stream(&name);
        }
    }

    fn start_stream(&self, name: &str) {
        self.run(&format!(
            "select pg_create_logical_replication_slot('{name}', 'pgoutput')"
        ));
        self.run(&format!(
            "alter subscription {name} set (slot_name = '{name}');
             alter subscription {name} enable"
        ));
    }

    fn stop_streams(&self) {
        for name in (1..SUBSCRIPTIONS).map(small) {
            self.run(&format!(
                "alter subscription {name} disable;
                 alter subscription {name} set (slot_name = none)"
            ));
        }
        wait_until("no slot is in use any more", DEFAULT_DEADLINE, || {
            self.cluster.query_one_value(
                DATABASE,
                "select not exists (select from pg_replication_slots where active)",
            )
        });
        self.run("select pg_drop_replication_slot(slot_name) from pg_replication_slots");
    }

    pub(crate) fn session(&self) -> Result<Client, String> {
        let mut session = self.cluster.connect(DATABASE);
        session
            .batch_execute("set statement_timeout = '5min'")
            .map_err(reason)?;
        Ok(session)
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn major(&self) -> u32 {
        self.cluster.server().major()
    }

    fn run(&self, sql: &str) {
        self.cluster.execute(DATABASE, sql);
    }
}

fn small(number: u32) -> String {
    format!("small_{number}")
}

fn large_table(number: u32) -> String {
    format!("large.table_{number:05}")
}
