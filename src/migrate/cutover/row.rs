//! What a check says, and the words for it.

use crate::subscription::quote::identifier;
use serde::Serialize;

/// So many things are named in a remedy. The rest comes up when these are mended.
pub(super) const NAMED: usize = 20;
/// And so many in a sentence.
const SHOWN: usize = 3;

/// A row of `repl_cutover_check()`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) check_name: &'static str,
    pub(super) ready: bool,
    /// A sentence or two, with the figures.
    pub(super) finding: String,
    /// SQL that can be pasted; a comment says so where it is for the publisher.
    pub(super) remedy: Option<String>,
}

impl Row {
    pub(super) fn ready(check_name: &'static str, finding: impl Into<String>) -> Self {
        Self {
            check_name,
            ready: true,
            finding: finding.into(),
            remedy: None,
        }
    }

    pub(super) fn not_ready(
        check_name: &'static str,
        finding: impl Into<String>,
        remedy: Option<String>,
    ) -> Self {
        Self {
            check_name,
            ready: false,
            finding: finding.into(),
            remedy,
        }
    }

    /// `why`: the end of a sentence.
    pub(super) fn not_checked(check_name: &'static str, why: &str) -> Self {
        Self::not_ready(check_name, format!("Not checked: {why}"), None)
    }
}

/// `1 table`, `2 tables`
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{number} {word}")
}

/// As in a sentence: `a`, `a and b`, `a, b and 3 more`. Names with control characters could become something else on a
/// terminal.
pub(super) fn listed(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<String> = names.into_iter().map(|one| shown(one.as_ref())).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] if names.len() <= SHOWN => format!("{} and {last}", first.join(", ")),
        _ => format!(
            "{} and {} more",
            names[..SHOWN - 1].join(", "),
            names.len() - (SHOWN - 1)
        ),
    }
}

pub(super) fn shown(text: &str) -> String {
    text.chars()
        .map(|one| if one.is_control() { '?' } else { one })
        .collect()
}

/// The first statements, each on a line of its own.
pub(super) fn statements(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let mut lines: Vec<String> = all.take(NAMED).collect();
    if more > 0 {
        lines.push(format!(
            "-- and {more} more, which come up when these are done"
        ));
    }
    lines.join("\n")
}

pub(super) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_as_in_a_sentence() {
        assert_eq!(listed(["a"]), "a");
        assert_eq!(listed(["a", "b", "c"]), "a, b and c");
        assert_eq!(listed(["a", "b", "c", "d"]), "a, b and 2 more");
        assert_eq!(listed(["a\nb"]), "a?b");
    }

    #[test]
    fn many_statements_are_cut() {
        let text = statements(
            (0..25)
                .map(|one| one.to_string())
                .collect::<Vec<_>>()
                .into_iter(),
        );
        assert_eq!(text.lines().count(), NAMED + 1);
        assert!(text.ends_with("-- and 5 more, which come up when these are done"));
    }
}
