//! What the reader sees: headings, narration, and SQL with the prompt of the node that runs it.

use std::io::{IsTerminal, stdout};

use postgres::{Client, SimpleQueryMessage};
use replwarden_tests::{Cluster, TextRow};

use crate::table::Table;

const WIDTH: usize = 96;

pub(crate) fn heading(text: &str) {
    println!("{}\n", style("1", &format!("== {text} ==")));
}

/// Narration, folded to the terminal's width.
pub(crate) fn say(text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            println!("{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    println!("{line}\n");
}

/// One of the two clusters, seen through one session.
pub(crate) struct Node {
    name: &'static str,
    session: Client,
}

impl Node {
    pub(crate) fn new(name: &'static str, cluster: &Cluster, database: &str) -> Self {
        Self {
            name,
            session: cluster.connect(database),
        }
    }

    /// Shows a statement, runs it, shows its rows.
    pub(crate) fn run(&mut self, sql: &str) -> Result<(), String> {
        self.rows_of(sql).map(drop)
    }

    /// Shows a statement, and the error that it has to be.
    pub(crate) fn run_in_vain(&mut self, sql: &str) -> Result<(), String> {
        self.print(sql);
        match self.session.simple_query(sql) {
            Ok(_) => Err(format!("the {} does it: {sql}", self.name)),
            Err(error) => {
                println!("{}\n", reason(&error));
                Ok(())
            }
        }
    }

    /// As [`Node::run`], for a caller who wants to see the rows too.
    pub(crate) fn rows_of(&mut self, sql: &str) -> Result<Vec<TextRow>, String> {
        self.print(sql);
        let answer = self
            .session
            .simple_query(sql)
            .map_err(|error| format!("the {} answers: {}", self.name, reason(&error)))?;
        let mut table = None;
        for message in &answer {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    table = Some(Table {
                        columns: columns
                            .iter()
                            .map(|column| column.name().to_owned())
                            .collect(),
                        rows: Vec::new(),
                    });
                }
                SimpleQueryMessage::Row(row) => {
                    if let Some(table) = &mut table {
                        table.rows.push(
                            (0..row.len())
                                .map(|column| row.get(column).map(str::to_owned))
                                .collect(),
                        );
                    }
                }
                _ => {}
            }
        }
        let rows = match table {
            Some(table) => {
                print!("{}", table.render());
                table.rows
            }
            None => Vec::new(),
        };
        println!();
        Ok(rows)
    }

    pub(crate) fn session(&mut self) -> &mut Client {
        &mut self.session
    }

    fn print(&self, sql: &str) {
        for (number, line) in sql.lines().enumerate() {
            let mark = if number == 0 { '=' } else { '-' };
            let end = if number + 1 == sql.lines().count() {
                ";"
            } else {
                ""
            };
            println!(
                "{} {}",
                style("2", &format!("{}{mark}#", self.name)),
                style("1", &format!("{line}{end}"))
            );
        }
    }
}

/// The server's answer rather than the client's summary of it.
pub(crate) fn reason(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(answer) => answer.to_string(),
        None => error.to_string(),
    }
}

/// Bold or dim on a terminal that may want it, plain anywhere else.
fn style(code: &str, text: &str) -> String {
    if stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
