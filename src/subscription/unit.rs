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
}
