//! How far a sequence is, and how far it has to be. Sums are of 128 bits: a sequence may begin at one end of a bigint.

use serde::Deserialize;
use std::collections::HashMap;
use std::fmt::Write as _;

/// The row of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Position {
    pub(crate) last_value: i64,
    /// It has given that value; otherwise it is the next.
    pub(crate) is_called: bool,
}

/// Which values a sequence gives, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Range {
    pub(crate) increment: i64,
    pub(crate) min: i64,
    pub(crate) max: i64,
    /// It begins again after its end.
    pub(crate) cycles: bool,
}

/// Where a sequence has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) position: Position,
    /// Its end leaves room for so many of the values that were to be skipped.
    pub(crate) cut_to: Option<i64>,
}

/// Why a sequence cannot follow the publisher's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The publisher's value is none that it can have.
    OutOfRange,
    /// It counts in the other direction.
    OtherDirection,
}

impl Range {
    fn counts_down(self) -> bool {
        self.increment < 0
    }

    fn contains(self, value: i128) -> bool {
        (i128::from(self.min)..=i128::from(self.max)).contains(&value)
    }

    /// What it gives next, as far as it has one.
    fn next(self, position: Position) -> i128 {
        let last = i128::from(position.last_value);
        if !position.is_called {
            return last;
        }
        let next = last + i128::from(self.increment);
        match (self.cycles && !self.contains(next), self.counts_down()) {
            (false, _) => next,
            (true, false) => self.min.into(),
            (true, true) => self.max.into(),
        }
    }

    /// Where it has to be if the publisher's is at `there` and `headroom` values of that are to be skipped. Each of them is
    /// `increment` from the one before, the publisher's.
    pub(crate) fn target(
        self,
        there: Position,
        increment: i64,
        headroom: i64,
    ) -> Result<Target, Misfit> {
        if (increment < 0) != self.counts_down() {
            return Err(Misfit::OtherDirection);
        }
        if !self.contains(there.last_value.into()) {
            return Err(Misfit::OutOfRange);
        }
        let (increment, headroom) = (i128::from(increment), i128::from(headroom));
        let value = i128::from(there.last_value) + increment * headroom;
        let end = if self.counts_down() {
            self.min
        } else {
            self.max
        };
        let room = (i128::from(end) - i128::from(there.last_value)) / increment;
        let (value, cut_to) = if headroom <= room {
            (value, None)
        } else if self.cycles {
            let first = if self.counts_down() {
                self.max
            } else {
                self.min
            };
            let length = (i128::from(end) - i128::from(first)) / increment + 1;
            let beyond = (headroom - room - 1) % length;
            (i128::from(first) + beyond * increment, None)
        } else {
            (end.into(), Some(room))
        };
        let narrow = |wide: i128| i64::try_from(wide).map_err(|_| Misfit::OutOfRange);
        Ok(Target {
            position: Position {
                last_value: narrow(value)?,
                is_called: there.is_called,
            },
            cut_to: cut_to.map(narrow).transpose()?,
        })
    }

    /// Whether it has to be moved from where it is. Never backwards; of one that begins again after its end nobody can tell
    /// what is backwards, and it goes where the publisher's is.
    pub(crate) fn is_short_of(self, target: Position, here: Position) -> bool {
        let (target, here) = (self.next(target), self.next(here));
        match (self.cycles, self.counts_down()) {
            (true, _) => target != here,
            (false, false) => target > here,
            (false, true) => target < here,
        }
    }
}

/// Reads the rows of sequences, by id and name: a JSON array of id, `last_value` and `is_called`. Subqueries of VALUES, because
/// a UNION of thousands would be too deep for the parser's stack.
pub(super) fn positions_query(names: &[(u32, String)]) -> String {
    let mut sql =
        "select coalesce(pg_catalog.json_agg(v.position), '[]')::text from (values ".to_owned();
    for (place, (id, name)) in names.iter().enumerate() {
        let comma = if place == 0 { "" } else { ",\n" };
        // Writing to a string does not fail.
        let _ = write!(
            sql,
            "{comma}((select pg_catalog.json_build_array({id}, s.last_value, s.is_called) from {name} s))"
        );
    }
    sql.push_str(") v (position)");
    sql
}

pub(super) fn positions_by_id(positions: Vec<(u32, i64, bool)>) -> HashMap<u32, Position> {
    let positions = positions.into_iter();
    positions
        .map(|(id, last_value, is_called)| {
            let position = Position {
                last_value,
                is_called,
            };
            (id, position)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Range = Range {
        increment: 1,
        min: 1,
        max: 100,
        cycles: false,
    };
    const DOWN: Range = Range {
        increment: -2,
        min: -100,
        max: -1,
        cycles: false,
    };
    const ROUND: Range = Range {
        cycles: true,
        max: 10,
        ..UP
    };

    fn called(last_value: i64) -> Position {
        Position {
            last_value,
            is_called: true,
        }
    }

    fn fresh(last_value: i64) -> Position {
        Position {
            last_value,
            is_called: false,
        }
    }

    fn target(range: Range, there: Position, headroom: i64) -> Result<Position, Misfit> {
        let found = range.target(there, range.increment, headroom)?;
        Ok(found.position)
    }

    #[test]
    fn headroom_is_a_number_of_values() {
        assert_eq!(target(UP, called(5), 0), Ok(called(5)));
        assert_eq!(target(UP, called(5), 10), Ok(called(15)));
        assert_eq!(target(UP, fresh(5), 10), Ok(fresh(15)));
        assert_eq!(target(DOWN, called(-5), 10), Ok(called(-25)));
        let by_publisher = UP.target(called(5), 3, 10).map(|found| found.position);
        assert_eq!(by_publisher, Ok(called(35)));
    }

    #[test]
    fn headroom_ends_where_the_sequence_does() {
        let found = UP.target(called(95), 1, 10);
        let expected = Target {
            position: called(100),
            cut_to: Some(5),
        };
        assert_eq!(found, Ok(expected));
        let found = DOWN.target(called(-97), -2, i64::MAX);
        let expected = Target {
            position: called(-100),
            cut_to: Some(1),
        };
        assert_eq!(found, Ok(expected));
        let whole = Range {
            min: i64::MIN,
            max: i64::MAX,
            ..UP
        };
        let found = whole.target(called(i64::MIN), i64::MAX, i64::MAX);
        assert_eq!(found.map(|one| one.cut_to), Ok(Some(2)));
    }

    #[test]
    fn headroom_goes_round_with_a_cycle() {
        assert_eq!(target(ROUND, called(8), 2), Ok(called(10)));
        assert_eq!(target(ROUND, called(8), 3), Ok(called(1)));
        assert_eq!(target(ROUND, called(8), 23), Ok(called(1)));
        let down = Range {
            increment: -1,
            ..ROUND
        };
        assert_eq!(target(down, called(2), 2), Ok(called(10)));
    }

    #[test]
    fn publishers_value_has_to_fit() {
        assert_eq!(target(UP, called(101), 0), Err(Misfit::OutOfRange));
        assert_eq!(target(UP, called(0), 5), Err(Misfit::OutOfRange));
        assert_eq!(
            UP.target(called(5), -1, 0).err(),
            Some(Misfit::OtherDirection)
        );
    }

    #[test]
    fn never_backwards() {
        assert!(UP.is_short_of(called(6), called(5)));
        assert!(!UP.is_short_of(called(5), called(5)));
        assert!(!UP.is_short_of(called(4), called(5)));
        assert!(DOWN.is_short_of(called(-7), called(-5)));
        assert!(!DOWN.is_short_of(called(-3), called(-5)));
        // At its end, and nothing is further.
        assert!(!UP.is_short_of(called(100), called(100)));
    }

    #[test]
    fn what_comes_next_counts() {
        assert!(UP.is_short_of(called(1), fresh(1)));
        assert!(!UP.is_short_of(fresh(1), called(1)));
        assert!(!UP.is_short_of(fresh(6), called(5)));
        assert!(UP.is_short_of(fresh(1000), fresh(1)));
    }

    #[test]
    fn one_that_begins_again_goes_where_the_publishers_is() {
        assert!(ROUND.is_short_of(called(3), called(9)));
        assert!(ROUND.is_short_of(called(9), called(3)));
        assert!(!ROUND.is_short_of(called(9), called(9)));
        assert!(!ROUND.is_short_of(fresh(1), called(10)));
    }
}
