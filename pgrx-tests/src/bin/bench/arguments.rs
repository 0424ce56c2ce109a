//! The command line.

pub(crate) const USAGE: &str = "usage: bench [--only SECTION] [--rows N] [--rounds N] [--backfill-rows N] [--backfill-rounds N]
             [--status-tables N] [--status-rounds N] [--watch-looks N]

  --only SECTION       rule: what a rule costs in apply, in the initial copy and in local writes;
                       backfill: existing rows, against UPDATE;
                       status: views and report, against plain queries of the catalogs;
                       watch: the worker that looks at all subscriptions;
                       preflight: the checks before the start, of 1000 tables (default: all)
  --rows N             rows of a measurement of apply and of the initial copy; a local INSERT takes twice as many
                       (default 500000, at least 10000)
  --rounds N           how often everything of the section rule is measured (default 3)
  --backfill-rows N    rows of the table that is backfilled (default 5000000, at least 100000)
  --backfill-rounds N  how often everything of the section backfill is measured (default 1: one takes minutes)
  --status-tables N    tables of the largest subscription of the sections status and watch
                       (default 10000, at least 1000)
  --status-rounds N    how often everything of the section status is measured (default 21)
  --watch-looks N      looks over which memory is followed in the section watch (default 3600, at least 100)";

/// Below it a measurement is shorter than a few clock ticks, in which the kernel counts CPU time.
const FEWEST_ROWS: u32 = 10_000;

/// Below it a backfill is over before its transactions have been looked at a few times.
const FEWEST_BACKFILL_ROWS: u32 = 100_000;

/// A hundredth of it is measured, too.
const FEWEST_STATUS_TABLES: u32 = 1_000;

/// Below it the memory of the worker has not come to rest.
const FEWEST_LOOKS: u32 = 100;

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Rule,
    Backfill,
    Status,
    Watch,
    Preflight,
}

pub(crate) struct Arguments {
    /// All sections when there is none.
    only: Option<Section>,
    pub(crate) rows: u32,
    pub(crate) rounds: u32,
    pub(crate) backfill_rows: u32,
    pub(crate) backfill_rounds: u32,
    pub(crate) status_tables: u32,
    pub(crate) status_rounds: u32,
    pub(crate) watch_looks: u32,
}

impl Arguments {
    /// `None` when the user asks for help.
    pub(crate) fn parse(
        mut arguments: impl Iterator<Item = String>,
    ) -> Result<Option<Self>, String> {
        let mut parsed = Self {
            only: None,
            rows: 500_000,
            rounds: 3,
            backfill_rows: 5_000_000,
            backfill_rounds: 1,
            status_tables: 10_000,
            status_rounds: 21,
            watch_looks: 3600,
        };
        while let Some(argument) = arguments.next() {
            let (target, least) = match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--only" => {
                    parsed.only = Some(section(arguments.next().as_deref())?);
                    continue;
                }
                "--rows" => (&mut parsed.rows, FEWEST_ROWS),
                "--rounds" => (&mut parsed.rounds, 1),
                "--backfill-rows" => (&mut parsed.backfill_rows, FEWEST_BACKFILL_ROWS),
                "--backfill-rounds" => (&mut parsed.backfill_rounds, 1),
                "--status-tables" => (&mut parsed.status_tables, FEWEST_STATUS_TABLES),
                "--status-rounds" => (&mut parsed.status_rounds, 1),
                "--watch-looks" => (&mut parsed.watch_looks, FEWEST_LOOKS),
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

    pub(crate) fn wants(&self, section: Section) -> bool {
        self.only.is_none_or(|only| only == section)
    }
}

fn section(name: Option<&str>) -> Result<Section, String> {
    match name {
        Some("rule") => Ok(Section::Rule),
        Some("backfill") => Ok(Section::Backfill),
        Some("status") => Ok(Section::Status),
        Some("watch") => Ok(Section::Watch),
        Some("preflight") => Ok(Section::Preflight),
        _ => Err("--only takes a section: rule, backfill, status, watch or preflight".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Section};

    fn parse(arguments: &[&str]) -> Result<Option<Arguments>, String> {
        Arguments::parse(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn numbers_are_taken() {
        let arguments = parse(&[
            "--rounds",
            "1",
            "--rows",
            "20000",
            "--backfill-rows",
            "200000",
            "--status-tables",
            "2000",
        ])
        .unwrap()
        .unwrap();
        assert_eq!((arguments.rows, arguments.rounds), (20_000, 1));
        assert_eq!(
            (arguments.backfill_rows, arguments.backfill_rounds),
            (200_000, 1)
        );
        assert_eq!(
            (arguments.status_tables, arguments.status_rounds),
            (2000, 21)
        );
    }

    #[test]
    fn one_section_or_all() {
        let all = parse(&[]).unwrap().unwrap();
        assert!(
            [
                Section::Rule,
                Section::Backfill,
                Section::Status,
                Section::Watch,
                Section::Preflight
            ]
            .into_iter()
            .all(|section| all.wants(section))
        );
        let one = parse(&["--only", "backfill"]).unwrap().unwrap();
        assert!(!one.wants(Section::Rule) && one.wants(Section::Backfill));
    }

    #[test]
    fn too_little_and_nonsense_are_refused() {
        for wrong in [
            &["--rows", "9999"][..],
            &["--rounds", "0"],
            &["--backfill-rows", "99999"],
            &["--backfill-rounds", "0"],
            &["--status-tables", "999"],
            &["--status-rounds", "0"],
            &["--watch-looks", "99"],
            &["--only", "everything"],
            &["--only"],
            &["--rows"],
            &["rows"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
