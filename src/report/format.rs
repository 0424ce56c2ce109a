//! Units that a person reads at a glance, and names that fit.

pub(super) use crate::subscription::unit::{bytes, duration};

use crate::subscription::unit::scaled;

/// Of a progress bar, without its brackets.
const BAR: usize = 20;

/// 12 MB/s
pub(crate) fn bytes_per_second(rate: f64) -> String {
    format!("{}/s", bytes(rate as i64))
}

/// 980 rows, 1.2 M rows
pub(crate) fn rows(number: i64) -> String {
    scaled(
        number as f64,
        1000.0,
        &["rows", "k rows", "M rows", "G rows"],
    )
}

/// Never 100 % as long as something is left.
pub(crate) fn percent(percent: f64) -> String {
    format!("{} %", percent.clamp(0.0, 100.0).floor())
}

/// `[############........]`
pub(crate) fn bar(percent: f64) -> String {
    let full = (percent.clamp(0.0, 100.0) / 100.0 * BAR as f64) as usize;
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full))
}

/// "1 table", "2 tables"
pub(crate) fn counted(number: i64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A name on one line.
pub(crate) fn name(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}

/// At most that many characters, of a longer text the beginning and the end.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    const GAP: &str = "..";
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    if width <= GAP.len() {
        return text.chars().take(width).collect();
    }
    let kept = width - GAP.len();
    let head = kept.div_ceil(2);
    let tail = kept - head;
    text.chars()
        .take(head)
        .chain(GAP.chars())
        .chain(text.chars().skip(length - tail))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_rows_have_two_digits_or_three() {
        assert_eq!(bytes_per_second(12.5 * 1024.0 * 1024.0), "12 MB/s");
        assert_eq!(rows(980), "980 rows");
        assert_eq!(rows(999_999), "1.0 M rows");
        assert_eq!(rows(1_234_567), "1.2 M rows");
    }

    #[test]
    fn a_bar_is_full_at_the_end_only() {
        assert_eq!(bar(61.0), "[############........]");
        assert_eq!(bar(0.0), format!("[{}]", ".".repeat(20)));
        assert_eq!(bar(99.99), format!("[{}.]", "#".repeat(19)));
        assert_eq!(bar(250.0), format!("[{}]", "#".repeat(20)));
        assert_eq!(percent(99.99), "99 %");
        assert_eq!(percent(100.0), "100 %");
    }

    #[test]
    fn names_are_shortened_by_characters() {
        assert_eq!(shorten("short", 5), "short");
        assert_eq!(shorten("abcdefghij", 6), "ab..ij");
        assert_eq!(shorten("äöüßäöüßäö", 7), "äöü..äö");
        assert_eq!(shorten("abc", 2), "ab");
        assert_eq!(name("a\nb\tc"), "a?b?c");
    }
}
