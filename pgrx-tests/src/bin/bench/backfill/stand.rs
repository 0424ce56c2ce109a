//! The server that the backfill is measured on, and the state in which each measurement starts.

use postgres::Client;
use replwarden_tests::Cluster;

use super::way::Way;
use crate::stand::{self, columns_of, reason, server_with_extension};
use crate::variant::EXPRESSION;

/// The table whose rows get their values.
pub(super) const TABLE: &str = "loan_app";

/// Its rows, as they are before.
const TEMPLATE: &str = "loan_template";

const DATABASE: &str = "shop";

/// What differs from the other stand: this table, with the old versions of its rows, has to be in memory too.
const SHARED_BUFFERS: (&str, &str) = ("shared_buffers", "2GB");

/// Rather more WAL than an UPDATE writes for a row.
const WAL_BYTES_PER_ROW: u32 = 400;

pub(super) struct Stand {
    cluster: Cluster,
    rows: u32,
}

impl Stand {
    /// Starts a server as a subscriber is set up, and makes the rows.
    pub(super) fn build(rows: u32) -> Result<Self, String> {
        let server = server_with_extension()?;
        eprintln!(
            "starting a server with a table of {rows} rows, {}",
            server.version()
        );
        let mut builder = Cluster::builder("backfill").server(server);
        for &(name, value) in stand::SETTINGS.iter().chain([&SHARED_BUFFERS]) {
            builder = builder.setting(name, value);
        }
        let cluster = builder
            .setting("shared_preload_libraries", "replwarden")
            .setting("replwarden.max_backfill_workers", "2")
            .start();
        cluster.execute("postgres", &format!("create database {DATABASE}"));
        let stand = Self { cluster, rows };
        stand.run("create extension replwarden");
        stand.run(&format!(
            "create table {TEMPLATE} as
             select id, {}, null::text as loan_id from generate_series(1::bigint, {rows}) id",
            columns_of("id")
        ));
        stand.run(&format!("vacuum (freeze, analyze) {TEMPLATE}"));
        stand.fill_wal();
        Ok(stand)
    }

    /// So that the way that comes first finds WAL files that are there already, as the others do.
    fn fill_wal(&self) {
        let megabytes = u64::from(self.rows) * u64::from(WAL_BYTES_PER_ROW) / (1 << 20);
        self.run(&format!(
            "select count(pg_logical_emit_message(false, 'bench', repeat('x', 1 << 20)))
               from generate_series(1, {megabytes})"
        ));
        self.run("checkpoint");
    }

    /// Makes the table anew, without values in `loan_id`, and leaves the server nothing to write out.
    pub(super) fn prepare(&self, way: Way) {
        self.run(&format!(
            "drop table if exists {TABLE};
             create table {TABLE} (id bigint not null, userid bigint not null, amount numeric, loan_id text);
             insert into {TABLE} select id, userid, amount, loan_id from {TEMPLATE};
             alter table {TABLE} add primary key (id)"
        ));
        if way.workers().is_some() {
            self.run(&format!(
                "select repl_set_expression('{TABLE}', 'loan_id', $${EXPRESSION}$$, backfill => false)"
            ));
        }
        self.tidy();
    }

    /// Vacuum and checkpoint, which autovacuum and the checkpointer will then not do while something is measured.
    pub(super) fn tidy(&self) {
        self.run(&format!("vacuum (freeze, analyze) {TABLE}"));
        self.run("checkpoint");
    }

    /// No way shall win by not doing its work.
    pub(super) fn check(&self) -> Result<(), String> {
        let (rows, wrong): (i64, i64) = self
            .session()?
            .query_one(
                &format!(
                    "select count(*), count(*) filter (where loan_id is distinct from {EXPRESSION}) from {TABLE}"
                ),
                &[],
            )
            .map(|row| (row.get(0), row.get(1)))
            .map_err(reason)?;
        if (rows, wrong) == (i64::from(self.rows), 0) {
            Ok(())
        } else {
            Err(format!(
                "{TABLE} has {rows} rows where {} should be, {wrong} of them with a wrong loan_id",
                self.rows
            ))
        }
    }

    /// The settings of a backfill, as the server has them.
    pub(super) fn backfill_settings(&self) -> String {
        self.cluster.query_one_value(
            DATABASE,
            "select string_agg(name || ' = ' || current_setting(name), ', ' order by name)
               from pg_settings
              where name like 'replwarden.backfill%' or name = 'replwarden.max_backfill_workers'",
        )
    }

    pub(super) fn session(&self) -> Result<Client, String> {
        let mut session = self.cluster.connect(DATABASE);
        session
            .batch_execute("set statement_timeout = '15min'")
            .map_err(reason)?;
        Ok(session)
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    fn run(&self, sql: &str) {
        self.cluster.execute(DATABASE, sql);
    }
}
