//! A backfill worker: claims ranges and works through them until there is none left to claim.

use super::batch::{self, Outcome};
use super::claim::{self, Claim};
use super::failing;
use super::pass::Manner;
use super::settle::{self, Ended};
use super::state::State;
use crate::error::Error;
use crate::generated::failure;
use crate::guc;
use crate::pg::row_pass::Tally;
use crate::pg::tid::Tid;
use crate::pg::transaction::{self, Failure};
use crate::pg::{background, databases, lock};
use std::time::{Duration, Instant};

/// Pauses after a failure and while others have rows locked: doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// How often a long pause between batches is interrupted to see whether they are still wanted.
const LOOK_UP: Duration = Duration::from_secs(1);

/// Works until nothing is left to claim, or the database is about to go.
pub(crate) fn run() {
    let place = transaction::run(|| {
        let state = State::find()?;
        Ok(claim::take_place(
            state.backfills,
            0,
            guc::max_backfill_workers(),
        ))
    });
    // No place: others are at work, and will do this, too.
    let Ok(Some((place, _lock))) = place else {
        return;
    };
    let mut pause = Pause::default();
    loop {
        background::heed_signals();
        if is_one_too_many(place) || !lock::database_is_open(databases::current()) {
            return;
        }
        match transaction::run(find_work) {
            Ok((ended, claim)) => {
                ended.iter().for_each(failing::report_end);
                let Some(mut claim) = claim else {
                    return;
                };
                match work_on(&mut claim, place) {
                    Progress::Some => pause = Pause::default(),
                    Progress::None => pause.wait(LONGEST_PAUSE),
                }
            }
            Err(failure) if failure.is_not_installed() => return,
            Err(failure) => {
                failing::log("looking for backfills", &failure);
                pause.wait(LONGEST_PAUSE_AFTER_FAILURE);
            }
        }
    }
}

fn find_work() -> Result<(Vec<Ended>, Option<Claim>), Error> {
    let state = State::find()?;
    Ok((settle::settle(&state)?, claim::next(&state)?))
}

/// The setting allows fewer workers than there are. If it allows none, they stay and pause.
fn is_one_too_many(place: u16) -> bool {
    (1..place).contains(&guc::max_backfill_workers())
}

enum Progress {
    Some,
    None,
}

/// Works on a range until it is finished or no longer ours.
fn work_on(claim: &mut Claim, place: u16) -> Progress {
    let mut pause = Pause::default();
    if !wait_for_next_batch(claim, || Duration::ZERO) {
        return Progress::Some;
    }
    loop {
        background::heed_signals();
        if is_one_too_many(place) || !lock::database_is_open(databases::current()) {
            return Progress::Some;
        }
        let time = guc::backfill_batch_time();
        let batch = || batch::run(claim, time, Manner::default(), &mut Tally::default());
        match transaction::run(batch) {
            Ok(Outcome::Advanced { .. }) => {
                failing::forget(claim);
                pause = Pause::default();
                if !wait_for_next_batch(claim, guc::backfill_delay) {
                    return Progress::Some;
                }
            }
            Ok(Outcome::Finished) => {
                failing::forget(claim);
                return Progress::Some;
            }
            Ok(Outcome::Gone) => return Progress::Some,
            Ok(Outcome::Locked) => return Progress::None,
            Ok(Outcome::TableBusy) => pause.wait(LONGEST_PAUSE),
            Err(failure) if failure.is_not_installed() => return Progress::None,
            Err(failure) if failure.sqlstate == failing::QUERY_CANCELED => {
                failing::end(claim, "cancelled", &failure, None);
                return Progress::Some;
            }
            Err(failure) if failure::may_pass_if_tried_again(&failure.sqlstate) => {
                failing::note(claim, &failure);
                pause.wait(LONGEST_PAUSE_AFTER_FAILURE);
            }
            Err(_) => {
                if stop_before_failing_row(claim) {
                    return Progress::Some;
                }
            }
        }
    }
}

/// The pause between batches, and for as long as the settings allow no worker at all. False if the backfill was cancelled
/// or has lost its object meanwhile.
fn wait_for_next_batch(claim: &Claim, delay: impl Fn() -> Duration) -> bool {
    let begun = Instant::now();
    let left = || {
        if guc::max_backfill_workers() == 0 {
            LOOK_UP
        } else {
            delay().saturating_sub(begun.elapsed()).min(LOOK_UP)
        }
    };
    while !left().is_zero() && lock::database_is_open(databases::current()) {
        let piece = left();
        background::wait_out(|| {
            if left().is_zero() {
                Duration::ZERO
            } else {
                piece
            }
        });
        let is_wanted = transaction::run(|| {
            let state = State::find()?;
            settle::settle(&state)?.iter().for_each(failing::report_end);
            batch::is_wanted(&state, claim.range)
        });
        match is_wanted {
            Ok(true) => {}
            Ok(false) => return false,
            Err(failure) if failure.is_not_installed() => return false,
            // The next batch will say so if it is something that lasts.
            Err(_) => return true,
        }
    }
    true
}

/// A row has failed, and the batch with it. Finds out which, keeps what comes before it, and ends the backfill. False: it
/// did not fail this time.
fn stop_before_failing_row(claim: &mut Claim) -> bool {
    let time = guc::backfill_batch_time();
    let mut tally = Tally::default();
    let careful = Manner {
        careful: true,
        before: None,
    };
    let failure: Failure = match transaction::run(|| batch::run(claim, time, careful, &mut tally)) {
        Ok(_) => return false,
        Err(failure) if failure::may_pass_if_tried_again(&failure.sqlstate) => return false,
        Err(failure) => failure,
    };
    if let Some(row) = tally.place {
        keep_rows_before(claim, row);
    }
    failing::end(claim, "failed", &failure, tally.place);
    true
}

fn keep_rows_before(claim: &mut Claim, row: Tid) {
    let manner = Manner {
        careful: true,
        before: Some(row),
    };
    loop {
        background::heed_signals();
        let time = guc::backfill_batch_time();
        match transaction::run(|| batch::run(claim, time, manner, &mut Tally::default())) {
            Ok(Outcome::Advanced { to }) if to < row => {}
            // There, or something else is the matter now: the error to report is that of the row.
            _ => return,
        }
    }
}

#[derive(Default)]
struct Pause(Option<Duration>);

impl Pause {
    fn wait(&mut self, longest: Duration) {
        let time = self.0.map_or(FIRST_PAUSE, |last| (last * 2).min(longest));
        self.0 = Some(time);
        background::wait_out(|| time);
    }
}
