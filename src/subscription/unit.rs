//! Numbers with their units, as a person reads them at a glance.

/// 512 B, 12 kB, 1.2 MB: in steps of 1024, as `pg_size_pretty` names them.
pub(crate) fn bytes(number: i64) -> String {
    scaled(number as f64, 1024.0, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// With two digits or three, and the unit that this takes, each `step` times the one before.
pub(crate) fn scaled(mut number: f64, step: f64, units: &[&str]) -> String {
    let mut place = 0;
    // What would be rounded to a whole step is one of the next unit.
    while number.abs().round() >= step && place + 1 < units.len() {
        number /= step;
        place += 1;
    }
    let unit = units.get(place).copied().unwrap_or_default();
    // 9.96 is 10, not 10.0.
    if place > 0 && number.abs() < 9.95 {
        format!("{number:.1} {unit}")
    } else {
        format!("{number:.0} {unit}")
    }
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
    fn sizes_have_two_digits_or_three() {
        for (number, text) in [
            (0, "0 B"),
            (512, "512 B"),
            (1023, "1023 B"),
            (1024, "1.0 kB"),
            (12_345, "12 kB"),
            (10_189, "10 kB"),
            (1_048_575, "1.0 MB"),
            (1_258_291, "1.2 MB"),
            (12 << 30, "12 GB"),
            (-2048, "-2.0 kB"),
            (i64::MAX, "8192 PB"),
        ] {
            assert_eq!(bytes(number), text, "{number}");
        }
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
}
