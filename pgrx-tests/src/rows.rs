//! Rows as text, and the difference between two sets of them in a form that a person can read.

/// A row's values as psql would print them, NULL as `None`.
pub type TextRow = Vec<Option<String>>;

const SHOWN: usize = 10;

/// Panics with what differs unless both are the same rows in the same order.
#[track_caller]
pub fn assert_same_rows(left_name: &str, left: &[TextRow], right_name: &str, right: &[TextRow]) {
    if left != right {
        panic!(
            "{}",
            describe_difference(left_name, left, right_name, right)
        );
    }
}

fn describe_difference(
    left_name: &str,
    left: &[TextRow],
    right_name: &str,
    right: &[TextRow],
) -> String {
    let mut text = format!(
        "{left_name} has {} rows, {right_name} has {}",
        left.len(),
        right.len()
    );
    let only_left = missing_in(left, right);
    let only_right = missing_in(right, left);
    if only_left.is_empty() && only_right.is_empty() {
        text.push_str("; the same rows in another order");
        if let Some(place) = left.iter().zip(right).position(|(a, b)| a != b) {
            text.push_str(&format!(
                ", from row {} on:\n  {left_name}: {}\n  {right_name}: {}",
                place + 1,
                show(&left[place]),
                show(&right[place])
            ));
        }
        return text;
    }
    for (name, rows) in [(left_name, only_left), (right_name, only_right)] {
        if rows.is_empty() {
            continue;
        }
        text.push_str(&format!("\nonly on {name}: {} rows", rows.len()));
        for row in rows.iter().take(SHOWN) {
            text.push_str(&format!("\n  {}", show(row)));
        }
        if rows.len() > SHOWN {
            text.push_str("\n  …");
        }
    }
    text
}

/// The rows of `rows` that `others` does not hold as often, in their order.
fn missing_in<'a>(rows: &'a [TextRow], others: &[TextRow]) -> Vec<&'a TextRow> {
    let mut counts = std::collections::HashMap::new();
    for other in others {
        *counts.entry(other).or_insert(0_usize) += 1;
    }
    rows.iter()
        .filter(|row| match counts.get_mut(row) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        })
        .collect()
}

fn show(row: &TextRow) -> String {
    row.iter()
        .map(|value| value.as_deref().unwrap_or("NULL"))
        .collect::<Vec<_>>()
        .join(" | ")
}

#[cfg(test)]
mod tests {
    use super::{TextRow, describe_difference};

    fn row(values: &[&str]) -> TextRow {
        values
            .iter()
            .map(|value| Some((*value).to_owned()))
            .collect()
    }

    #[test]
    fn difference_names_the_rows_of_one_side() {
        let text = describe_difference(
            "publisher",
            &[row(&["1", "a"]), row(&["2", "b"])],
            "subscriber",
            &[row(&["1", "a"]), vec![Some("2".to_owned()), None]],
        );
        assert_eq!(
            text,
            "publisher has 2 rows, subscriber has 2\n\
             only on publisher: 1 rows\n  2 | b\n\
             only on subscriber: 1 rows\n  2 | NULL"
        );
    }

    #[test]
    fn difference_counts_repeated_rows() {
        let text = describe_difference(
            "publisher",
            &[row(&["1"]), row(&["1"])],
            "subscriber",
            &[row(&["1"])],
        );
        assert!(text.ends_with("only on publisher: 1 rows\n  1"), "{text}");
    }

    #[test]
    fn difference_in_order_alone_is_said() {
        let text = describe_difference(
            "publisher",
            &[row(&["1"]), row(&["2"])],
            "subscriber",
            &[row(&["2"]), row(&["1"])],
        );
        assert!(text.contains("another order, from row 1 on"), "{text}");
    }
}
