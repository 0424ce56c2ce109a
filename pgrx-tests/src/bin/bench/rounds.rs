//! The section `rule`: what a rule costs in apply, in the initial copy and in local writes, against other ways to derive a
//! column.

use crate::apply;
use crate::arguments::Arguments;
use crate::cpu::Cost;
use crate::environment::Environment;
use crate::initial_copy;
use crate::local_insert;
use crate::report;
use crate::results::{Quantity, Results};
use crate::stand::Stand;
use crate::variant::Variant;

/// Measures all rounds and returns the report.
pub(crate) fn run(arguments: &Arguments, load: f64) -> Result<String, String> {
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
    let pair = stand.pair();
    let environment = Environment::look(pair.subscriber(), Some(pair.publisher()), load)?;
    Ok(report::render(arguments, &results, &environment))
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
