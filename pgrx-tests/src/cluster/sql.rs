//! Talking to a cluster. Each helper connects anew, so that it works right after a restart or a crash.

use std::fs;
use std::path::Path;
use std::time::Duration;

use postgres::error::DbError;
use postgres::types::FromSqlOwned;
use postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::Cluster;
use crate::rows::TextRow;
use crate::wait::{DEFAULT_DEADLINE, wait_until};

/// Settings whose value is a list of names. As one quoted string ALTER SYSTEM would take the list for a single name.
const LIST_SETTINGS: &[&str] = &[
    "output_plugin_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
];

impl Cluster {
    /// libpq's connection string.
    pub fn conninfo(&self, database: &str) -> String {
        format!(
            "host=127.0.0.1 port={} user=postgres dbname={database}",
            self.port
        )
    }

    /// The command with which a person looks at a database of this cluster.
    pub fn psql_command(&self, database: &str) -> String {
        let in_path = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|directory| directory.join("psql").is_file())
        });
        let psql = if in_path {
            Path::new("psql").to_owned()
        } else {
            self.server.program("psql")
        };
        format!("{} \"{}\"", psql.display(), self.conninfo(database))
    }

    #[track_caller]
    pub fn connect(&self, database: &str) -> Client {
        match self.try_connect(database) {
            Ok(client) => client,
            Err(error) => panic!(
                "could not connect to database {database} of {}: {}",
                self.name,
                describe(&error)
            ),
        }
    }

    /// For servers that may be down.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn try_connect(&self, database: &str) -> Result<Client, postgres::Error> {
        Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user("postgres")
            .dbname(database)
            .application_name("harness")
            .connect_timeout(Duration::from_secs(10))
            .connect(NoTls)
    }

    /// Runs statements. Several in one text are one transaction.
    #[track_caller]
    pub fn execute(&self, database: &str, sql: &str) {
        if let Err(error) = self.connect(database).batch_execute(sql) {
            self.fail(sql, &error);
        }
    }

    /// Runs a statement that has to fail, and returns the server's error.
    #[track_caller]
    pub fn expect_error(&self, database: &str, sql: &str) -> DbError {
        match self.connect(database).batch_execute(sql) {
            Ok(()) => panic!("{}: expected an error, got none, from: {sql}", self.name),
            Err(error) => match error.as_db_error() {
                Some(answer) => answer.clone(),
                None => self.fail(sql, &error),
            },
        }
    }

    /// The single value of a query's single row. NULL needs an `Option`.
    #[track_caller]
    pub fn query_one_value<T: FromSqlOwned>(&self, database: &str, sql: &str) -> T {
        match self
            .connect(database)
            .query_one(sql, &[])
            .and_then(|row| row.try_get(0))
        {
            Ok(value) => value,
            Err(error) => self.fail(sql, &error),
        }
    }

    /// A query's rows as text.
    #[track_caller]
    pub fn rows_text(&self, database: &str, sql: &str) -> Vec<TextRow> {
        let answer = match self.connect(database).simple_query(sql) {
            Ok(answer) => answer,
            Err(error) => self.fail(sql, &error),
        };
        answer
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(
                    (0..row.len())
                        .map(|column| row.get(column).map(str::to_owned))
                        .collect(),
                ),
                _ => None,
            })
            .collect()
    }

    /// `ALTER SYSTEM SET` and a reload; returns when new sessions see it.
    #[track_caller]
    pub fn set(&self, setting: &str, value: &str) {
        let values: Vec<String> = if LIST_SETTINGS.contains(&setting) {
            value
                .split(',')
                .map(|name| literal(&self.name, name.trim()))
                .collect()
        } else {
            vec![literal(&self.name, value)]
        };
        self.execute(
            "postgres",
            &format!("alter system set {setting} = {}", values.join(", ")),
        );
        self.reload();
    }

    #[track_caller]
    pub fn reload(&self) {
        const LOADED: &str = "select extract(epoch from pg_conf_load_time())::float8";
        let before: f64 = self.query_one_value("postgres", LOADED);
        self.execute("postgres", "select pg_reload_conf()");
        wait_until(
            &format!("{} has reloaded its settings", self.name),
            DEFAULT_DEADLINE,
            || self.query_one_value::<f64>("postgres", LOADED) > before,
        );
    }

    /// The whole server log so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[track_caller]
    fn fail(&self, sql: &str, error: &postgres::Error) -> ! {
        panic!("{}: {}\n  in: {sql}", self.name, describe(error))
    }
}

fn literal(cluster: &str, value: &str) -> String {
    assert!(
        !value.contains('\\'),
        "{cluster}: a setting with a backslash is not supported: {value}"
    );
    format!("'{}'", value.replace('\'', "''"))
}

/// The server's error with all that it says, or the client's with its cause.
fn describe(error: &postgres::Error) -> String {
    let Some(answer) = error.as_db_error() else {
        return match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
    };
    let mut text = format!(
        "{} {}: {}",
        answer.severity(),
        answer.code().code(),
        answer.message()
    );
    for (label, value) in [
        ("DETAIL", answer.detail()),
        ("HINT", answer.hint()),
        ("CONTEXT", answer.where_()),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("\n  {label}: {value}"));
        }
    }
    text
}
