//! The command line.

pub(crate) const USAGE: &str = "usage: bench [--rows N] [--rounds N]

  --rows N    rows of a measurement of apply and of the initial copy; a local INSERT takes twice as many
              (default 500000, at least 10000)
  --rounds N  how often everything is measured (default 3)";

/// Below it a measurement is shorter than a few clock ticks, in which the kernel counts CPU time.
const FEWEST_ROWS: u32 = 10_000;

pub(crate) struct Arguments {
    pub(crate) rows: u32,
    pub(crate) rounds: u32,
}

impl Arguments {
    /// `None` when the user asks for help.
    pub(crate) fn parse(
        mut arguments: impl Iterator<Item = String>,
    ) -> Result<Option<Self>, String> {
        let mut parsed = Self {
            rows: 500_000,
            rounds: 3,
        };
        while let Some(argument) = arguments.next() {
            let (target, least) = match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--rows" => (&mut parsed.rows, FEWEST_ROWS),
                "--rounds" => (&mut parsed.rounds, 1),
                _ => return Err(format!("unknown argument \"{argument}\"")),
            };
            *target = arguments
                .next()
                .and_then(|value| value.parse().ok())
                .filter(|value| *value >= least)
                .ok_or_else(|| format!("{argument} takes a number, at least {least}"))?;
        }
        Ok(Some(parsed))
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn parse(arguments: &[&str]) -> Result<Option<Arguments>, String> {
        Arguments::parse(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn numbers_are_taken() {
        let arguments = parse(&["--rounds", "1", "--rows", "20000"])
            .unwrap()
            .unwrap();
        assert_eq!((arguments.rows, arguments.rounds), (20_000, 1));
    }

    #[test]
    fn too_little_and_nonsense_are_refused() {
        for wrong in [
            &["--rows", "9999"][..],
            &["--rounds", "0"],
            &["--rows"],
            &["rows"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
