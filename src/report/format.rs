//! Units that a person reads at a glance, and names that fit.

pub(super) use crate::subscription::unit::bytes;

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

/// 0 s, 14 s, 3 min, 2 h 10 min, 3 d 4 h. What is in the future has no age.
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as i64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes == 0 => format!("{seconds} s"),
        () if hours == 0 => format!("{minutes} min"),
        () if days == 0 => pair((hours, "h"), (minutes % 60, "min")),
        () => pair((days, "d"), (hours % 24, "h")),
    }
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

fn pair((large, large_unit): (i64, &str), (small, small_unit): (i64, &str)) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
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
    fn durations_have_two_units_at_most() {
        for (seconds, text) in [
            (-5.0, "0 s"),
            (0.4, "0 s"),
            (59.9, "59 s"),
            (60.0, "1 min"),
            (3599.0, "59 min"),
            (3600.0, "1 h"),
            (7800.0, "2 h 10 min"),
            (86_400.0, "1 d"),
            (86_400.0 * 3.0 + 4.5 * 3600.0, "3 d 4 h"),
            (f64::NAN, "0 s"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
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
