//! Comparing every row of both sides.

use std::cmp::Ordering;
use std::io::Read;

use replwarden_tests::{Pair, Provider};

use crate::stage::Node;
use crate::table::Table;

/// COPY's text form: one line a row, the key first.
const ALL_ROWS: &str =
    "copy (select id, userid, amount, loan_id from loan_app order by id) to stdout";

pub(crate) struct Comparison {
    provider: Provider,
    when: &'static str,
    publisher_rows: usize,
    subscriber_rows: usize,
    wrong_rows: usize,
    /// One wrong row, as both sides have it.
    example: Option<String>,
}

/// Compares all rows and says how many are there.
pub(crate) fn compare(
    pair: &Pair,
    when: &'static str,
    publisher: &mut Node,
    subscriber: &mut Node,
) -> Result<Comparison, String> {
    let left = all_rows(publisher)?;
    let right = all_rows(subscriber)?;
    let left: Vec<&str> = left.lines().collect();
    let right: Vec<&str> = right.lines().collect();
    let wrong = wrong_rows(&left, &right)?;
    let comparison = Comparison {
        provider: pair.provider(),
        when,
        publisher_rows: left.len(),
        subscriber_rows: right.len(),
        wrong_rows: wrong.len(),
        example: wrong.first().cloned(),
    };
    println!(
        "-- compared: {} rows on the publisher, {} on the subscriber, {} wrong\n",
        thousands(comparison.publisher_rows),
        thousands(comparison.subscriber_rows),
        thousands(comparison.wrong_rows)
    );
    Ok(comparison)
}

pub(crate) fn summary(results: &[Comparison]) -> String {
    let columns = [
        "provider",
        "after",
        "publisher_rows",
        "subscriber_rows",
        "wrong_rows",
    ];
    Table {
        columns: columns.map(str::to_owned).to_vec(),
        rows: results
            .iter()
            .map(|result| {
                [
                    name(result.provider).to_owned(),
                    result.when.to_owned(),
                    result.publisher_rows.to_string(),
                    result.subscriber_rows.to_string(),
                    result.wrong_rows.to_string(),
                ]
                .map(Some)
                .to_vec()
            })
            .collect(),
    }
    .render()
        + "\n"
}

/// Why the demo has failed, if a comparison found a wrong row. No rows at all would prove nothing.
pub(crate) fn first_wrong(results: &[Comparison]) -> Option<String> {
    results.iter().find_map(|result| {
        let place = format!("{}, after the {}", name(result.provider), result.when);
        if result.publisher_rows == 0 {
            return Some(format!("{place}: there is no row to compare"));
        }
        let example = result.example.as_ref()?;
        Some(format!(
            "{place}: {} wrong rows, for example\n{example}",
            thousands(result.wrong_rows)
        ))
    })
}

/// 204999 → 204,999
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn name(provider: Provider) -> &'static str {
    match provider {
        Provider::Native => "native",
        Provider::Pglogical => "pglogical",
    }
}

fn all_rows(node: &mut Node) -> Result<String, String> {
    let mut text = String::new();
    node.session()
        .copy_out(ALL_ROWS)
        .map_err(|error| error.to_string())?
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

/// The rows that differ or are on one side only. Both are in the order of the key.
fn wrong_rows(left: &[&str], right: &[&str]) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return Ok(wrong),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => key(a)?.cmp(&key(b)?),
        };
        let a = if order.is_le() { left.next() } else { None };
        let b = if order.is_ge() { right.next() } else { None };
        if a != b {
            wrong.push(format!(
                "  publisher:  {}\n  subscriber: {}",
                a.unwrap_or(&"no such row"),
                b.unwrap_or(&"no such row")
            ));
        }
    }
}

fn key(line: &str) -> Result<i64, String> {
    line.split('\t')
        .next()
        .and_then(|key| key.parse().ok())
        .ok_or_else(|| format!("no key in the row \"{line}\""))
}

#[cfg(test)]
mod tests {
    use super::{thousands, wrong_rows};

    #[test]
    fn a_missing_row_does_not_make_the_later_ones_wrong() {
        let wrong = wrong_rows(&["1\ta", "2\tb", "10\tc"], &["1\ta", "10\tx"]).unwrap();
        assert_eq!(
            wrong,
            [
                "  publisher:  2\tb\n  subscriber: no such row",
                "  publisher:  10\tc\n  subscriber: 10\tx"
            ]
        );
    }

    #[test]
    fn equal_rows_are_right() {
        assert!(wrong_rows(&["1\ta"], &["1\ta"]).unwrap().is_empty());
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(204_999), "204,999");
        assert_eq!(thousands(1_000_000), "1,000,000");
    }
}
