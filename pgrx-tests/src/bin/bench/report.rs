//! The report: ratios first, then the figures behind them, then the machine. Markdown, to be pasted as it is.

use crate::apply::ROWS_PER_TRANSACTION;
use crate::arguments::Arguments;
use crate::environment::Environment;
use crate::results::{Quantity, Results, Spread};
use crate::variant::Variant;

/// What is divided, and how far a rule may be from GENERATED STORED.
const TARGETS: &[(Quantity, f64)] = &[
    (Quantity::ApplyCpuAbovePlain, 0.25),
    (Quantity::CopyCpu, 1.6),
    (Quantity::CopyWall, 1.6),
    (Quantity::LocalCpu, 1.35),
    (Quantity::LocalWall, 1.35),
];

const FIGURES: &[Quantity] = &[
    Quantity::ApplyCpu,
    Quantity::ApplyCpuAbovePlain,
    Quantity::CopyCpu,
    Quantity::CopyWall,
    Quantity::LocalCpu,
    Quantity::LocalWall,
];

pub(crate) fn render(
    arguments: &Arguments,
    results: &Results,
    environment: &Environment,
) -> String {
    format!(
        "{}\n{}\n{}",
        ratios(arguments, results),
        figures(results),
        machine(arguments, environment)
    )
}

fn ratios(arguments: &Arguments, results: &Results) -> String {
    let mut table = vec![row(&[
        "÷ GENERATED STORED".to_owned(),
        "rule".to_owned(),
        "to reach".to_owned(),
        String::new(),
        Variant::BeforeTrigger.name().to_owned(),
        Variant::AfterTrigger.name().to_owned(),
    ])];
    table.push("|---|---|---|---|---|---|".to_owned());
    let mut missed = 0;
    for &(quantity, target) in TARGETS {
        let ratio = |variant| results.ratio(quantity, variant, Variant::Generated);
        let rule = ratio(Variant::Rule);
        let reached = rule.median <= target;
        missed += usize::from(!reached);
        table.push(row(&[
            name(quantity).to_owned(),
            with_range(rule, 2),
            format!("≤ {target}"),
            mark(reached),
            with_range(ratio(Variant::BeforeTrigger), 2),
            with_range(ratio(Variant::AfterTrigger), 2),
        ]));
    }
    let verdict = verdict(missed, TARGETS.len());
    format!(
        "Median of {} rounds (least – greatest), each ratio within one round; {} in the first round only.\n\n\
         {}\n\n{verdict}\n",
        arguments.rounds,
        Variant::AfterTrigger.name(),
        table.join("\n")
    )
}

fn figures(results: &Results) -> String {
    let mut header = vec!["seconds per million rows".to_owned()];
    header.extend(Variant::ALL.map(|variant| variant.name().to_owned()));
    let mut table = vec![row(&header), "|---|---|---|---|---|---|".to_owned()];
    for &quantity in FIGURES {
        let mut cells = vec![name(quantity).to_owned()];
        cells.extend(Variant::ALL.map(|variant| {
            if (quantity, variant) == (Quantity::ApplyCpuAbovePlain, Variant::Plain) {
                "–".to_owned()
            } else {
                with_range(results.spread(quantity, variant), 2)
            }
        }));
        table.push(row(&cells));
    }
    table.join("\n") + "\n"
}

fn machine(arguments: &Arguments, environment: &Environment) -> String {
    let mut lines = vec![
        format!(
            "- Rows: {} in apply and initial copy, {} in local INSERT … SELECT; every one checked.",
            arguments.rows,
            2 * arguments.rows
        ),
        format!(
            "- Apply: the median of transactions of {ROWS_PER_TRANSACTION} rows, below logical_decoding_work_mem and not \
             streamed, the variants in turn. CPU is user and system time from /proc."
        ),
    ];
    lines.extend(environment.lines().map(|line| format!("- {line}")));
    lines.join("\n") + "\n"
}

fn name(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::ApplyCpu => "apply, CPU",
        Quantity::ApplyCpuAbovePlain => "apply, CPU above plain column",
        Quantity::CopyCpu => "initial copy, CPU",
        Quantity::CopyWall => "initial copy, wall",
        Quantity::LocalCpu => "local INSERT … SELECT, CPU",
        Quantity::LocalWall => "local INSERT … SELECT, wall",
    }
}

/// Whether a target is reached.
pub(crate) fn mark(reached: bool) -> String {
    if reached { "reached" } else { "**missed**" }.to_owned()
}

pub(crate) fn verdict(missed: usize, targets: usize) -> String {
    match missed {
        0 => "All targets are reached.".to_owned(),
        _ => format!("{missed} of {targets} targets are missed."),
    }
}

/// The median, and the range it comes from where there is one.
pub(crate) fn with_range(spread: Spread, decimals: usize) -> String {
    let Spread {
        least,
        median,
        greatest,
    } = spread;
    if least == greatest {
        return format!("{median:.decimals$}");
    }
    format!("{median:.decimals$} ({least:.decimals$} – {greatest:.decimals$})")
}

pub(crate) fn row(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}
