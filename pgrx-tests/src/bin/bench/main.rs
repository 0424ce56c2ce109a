//! The benchmark: what a derived column costs a subscriber, in apply, in the initial copy and in local writes, for a
//! rule of replwarden and for the other ways to derive a column; how fast existing rows get their values; how fast the
//! status views answer; what watching costs; and how long the checks before the start take. Throw-away clusters, one go; ratios,
//! figures and machine on standard output as Markdown, progress on standard error.

mod apply;
mod arguments;
mod backfill;
mod cpu;
mod environment;
mod initial_copy;
mod local_insert;
mod preflight;
mod report;
mod results;
mod rounds;
mod stand;
mod status;
mod variant;
mod watch;

use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, Section};

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{}", arguments::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("{message}\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nThe benchmark failed: {message}");
            ExitCode::FAILURE
        }
    }
}

/// A target that is missed is a result like any other: it is marked in the report, and no error. Each section has its own
/// servers, which are gone before the next one begins, and is reported at once.
fn run(arguments: &Arguments) -> Result<(), String> {
    let started = Instant::now();
    // Before our own clusters are at work.
    let load = environment::load_average()?;
    if arguments.wants(Section::Rule) {
        let report = rounds::run(arguments, load)?;
        println!("## What a rule costs\n\n{report}");
    }
    if arguments.wants(Section::Backfill) {
        let report = backfill::run(arguments, load)?;
        print!("## Backfill of existing rows\n\n{report}");
    }
    if arguments.wants(Section::Status) {
        let report = status::run(arguments, load)?;
        print!("\n## Status of many tables\n\n{report}");
    }
    if arguments.wants(Section::Watch) {
        let report = watch::run(arguments, load)?;
        print!("\n## What watching costs\n\n{report}");
    }
    if arguments.wants(Section::Preflight) {
        let report = preflight::run(load)?;
        print!("\n## Checks before the start\n\n{report}");
    }
    eprintln!("\n{:.0} s in all", started.elapsed().as_secs_f64());
    Ok(())
}
