//! The benchmark: what a derived column costs a subscriber, in apply, in the initial copy and in local writes, for a
//! rule of replwarden and for the other ways to derive a column. One pair of throw-away clusters, one go, several
//! rounds; ratios, figures and machine on standard output as Markdown, progress on standard error.

mod apply;
mod arguments;
mod cpu;
mod environment;
mod initial_copy;
mod local_insert;
mod report;
mod results;
mod stand;
mod variant;

use std::process::ExitCode;
use std::time::Instant;

use arguments::Arguments;
use cpu::Cost;
use environment::Environment;
use results::{Quantity, Results};
use stand::Stand;
use variant::Variant;

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

/// A target that is missed is a result like any other: it is marked in the report, and no error.
fn run(arguments: &Arguments) -> Result<(), String> {
    let started = Instant::now();
    // Before our own clusters are at work.
    let load = environment::load_average()?;
    let stand = Stand::build(arguments.rows)?;
    let mut results = Results::default();
    for round in 0..arguments.rounds {
        let mut variants = Variant::ALL.to_vec();
        if round > 0 {
            variants.retain(|variant| !variant.is_slow());
        }
        // What grows or warms up in the course of a round then favours nobody.
        if round % 2 == 1 {
            variants.reverse();
        }
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        measure(&stand, &variants, &mut results)?;
    }
    let environment = Environment::look(&stand, load)?;
    print!("{}", report::render(arguments, &results, &environment));
    eprintln!("\n{:.0} s in all", started.elapsed().as_secs_f64());
    Ok(())
}

/// One round. Each measurement is done for all variants before the next one begins, because figures that are divided by
/// one another should be taken within seconds: a machine is not equally fast all the time.
fn measure(stand: &Stand, variants: &[Variant], results: &mut Results) -> Result<(), String> {
    stand.clear_publisher();
    stand.clear_subscriber();
    for (variant, seconds_per_row) in apply::measure(stand, variants)? {
        stand.check(variant, stand.rows())?;
        let cpu = seconds_per_row * f64::from(stand.rows());
        eprintln!("  apply         {:<17} {cpu:6.2} s CPU", variant.name());
        results.add(Quantity::ApplyCpu, variant, seconds_per_row * 1e6);
    }
    // The publisher has the rows now.
    for &variant in variants {
        stand.clear_subscriber();
        let cost = initial_copy::measure(stand, variant)?;
        stand.check(variant, stand.rows())?;
        show("initial copy", variant, &cost);
        let per_million = |seconds| seconds * 1e6 / f64::from(stand.rows());
        results.add(Quantity::CopyCpu, variant, per_million(cost.cpu));
        results.add(Quantity::CopyWall, variant, per_million(cost.wall));
    }
    for &variant in variants {
        stand.clear_subscriber();
        let cost = local_insert::measure(stand, variant)?;
        stand.check(variant, stand.local_rows())?;
        show("local INSERT", variant, &cost);
        let per_million = |seconds| seconds * 1e6 / f64::from(stand.local_rows());
        results.add(Quantity::LocalCpu, variant, per_million(cost.cpu));
        results.add(Quantity::LocalWall, variant, per_million(cost.wall));
    }
    Ok(())
}

fn show(measurement: &str, variant: Variant, cost: &Cost) {
    eprintln!(
        "  {measurement:<13} {:<17} {:6.2} s CPU {:6.2} s wall",
        variant.name(),
        cost.cpu,
        cost.wall
    );
}
