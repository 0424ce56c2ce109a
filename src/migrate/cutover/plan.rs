//! What to run, and in which order.

use super::row::{Row, shown};
use crate::subscription::quote::{identifier, literal};

const CHECK: &str = "plan";
/// What can be dealt with while the application is at work.
const BEFORE: [&str; 10] = [
    "subscription",
    "errors",
    "tables",
    "derived_columns",
    "backfills",
    "indexes",
    "foreign_keys",
    "triggers",
    "statistics",
    "subscriber_writable",
];

/// The last row. Its lines fit into a terminal of 100 columns beside the other columns.
pub(super) fn plan(provider: &str, subscription: &str, rows: &[Row]) -> Row {
    let is_ready = |checks: &[&str]| {
        let mut rows = rows.iter();
        rows.all(|row| row.ready || !checks.contains(&row.check_name))
    };
    let drop = if provider == "pglogical" {
        format!(
            "SELECT pglogical.drop_subscription({});",
            literal(subscription)
        )
    } else {
        format!("DROP SUBSCRIPTION {};", identifier(subscription))
    };
    let sync = format!(
        "SELECT * FROM repl_sync_sequences({});",
        literal(subscription)
    );
    let is_done = rows.iter().all(|row| row.ready);
    let steps = [
        (
            is_ready(&BEFORE),
            "Mend what is not ready up to subscriber_writable.",
        ),
        (
            is_ready(&["publisher_writes"]),
            "Stop the application, and what else writes there.",
        ),
        (
            is_ready(&["publisher_writes", "lag"]),
            "Wait until lag is 0 B.",
        ),
        (is_ready(&["publisher_writes", "lag", "sequences"]), &sync),
        (is_done, "Check again: all rows are ready."),
        (false, "Let the application connect here."),
        (false, &drop),
    ];
    let next = match rows.iter().find(|row| !row.ready) {
        None => "Ready: the application can move.".to_owned(),
        Some(first) => {
            let number = rows.iter().filter(|row| row.ready).count();
            let all = rows.len();
            format!("{number} of {all} are ready. Next: {}.", first.check_name)
        }
    };
    let lines = steps.iter().enumerate().map(|(place, (is_done, text))| {
        let mark = if *is_done { 'x' } else { ' ' };
        format!("[{mark}] {}. {}", place + 1, shown(text))
    });
    let lines: Vec<String> = std::iter::once(next).chain(lines).collect();
    Row {
        check_name: CHECK,
        ready: is_done,
        finding: lines.join("\n"),
        remedy: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(broken: &str) -> Vec<Row> {
        let checks = BEFORE
            .iter()
            .chain(&["publisher_writes", "lag", "sequences"]);
        checks
            .map(|check| Row {
                check_name: check,
                ready: *check != broken,
                finding: String::new(),
                remedy: None,
            })
            .collect()
    }

    fn marks(broken: &str) -> String {
        let text = plan("native", "sub", &rows(broken)).finding;
        let steps = text.lines().skip(1);
        steps
            .map(|line| if line.starts_with("[x]") { 'x' } else { '-' })
            .collect()
    }

    #[test]
    fn steps_that_are_done_are_marked() {
        assert_eq!(marks(""), "xxxxx--");
        assert_eq!(marks("foreign_keys"), "-xxx---");
        assert_eq!(marks("lag"), "xx-----");
        assert_eq!(marks("publisher_writes"), "x------");
        assert_eq!(marks("sequences"), "xxx----");
    }

    #[test]
    fn says_what_is_next() {
        let row = plan("native", "sub", &rows("tables"));
        assert!(
            row.finding
                .starts_with("12 of 13 are ready. Next: tables.\n")
        );
        assert!(!row.ready);
        assert!(plan("native", "sub", &rows("")).ready);
    }

    #[test]
    fn each_step_is_a_line_that_fits() {
        for provider in ["native", "pglogical"] {
            let row = plan(provider, "a\nb", &rows(""));
            assert_eq!(row.finding.lines().count(), 8);
            assert!(row.finding.lines().all(|line| line.len() < 60));
        }
    }
}
