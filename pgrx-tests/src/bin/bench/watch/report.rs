//! The report of the section: targets first, then the memory as it went.

use super::{Cost, INTERVAL, Memory, Results, SETTLING, SHORT_INTERVAL};
use crate::environment::Environment;
use crate::report::{mark, row, verdict};
use crate::status::stand::SUBSCRIPTIONS;

/// Of one core.
const MOST_CPU: f64 = 0.01;

/// What the allocator may keep by chance, in kB: a leak of 300 bytes a look would be more.
const MOST_GROWTH: i64 = 512;

pub(super) fn render(results: &Results, environment: &Environment) -> String {
    format!(
        "{}\n{}\n{}",
        targets(results),
        memory(&results.memory),
        notes(results, environment)
    )
}

fn targets(results: &Results) -> String {
    let (usual, compressed) = (&results.usual, &results.compressed);
    let cpu = usual.share_of_a_core();
    let growth = growth(&results.memory);
    let ids = usual.transaction_ids + compressed.transaction_ids;
    let wal = usual.wal_bytes + compressed.wal_bytes;
    let lines = [
        (
            format!("CPU at {INTERVAL}, share of one core"),
            format!("{:.2} %", cpu * 1e2),
            format!("< {:.0} %", MOST_CPU * 1e2),
            cpu < MOST_CPU,
        ),
        (
            format!("growth of memory over {} looks", compressed.looks),
            format!("{growth} kB"),
            format!("≤ {MOST_GROWTH} kB"),
            growth <= MOST_GROWTH,
        ),
        (
            "transaction ids taken by quiet looks".to_owned(),
            ids.to_string(),
            "0".to_owned(),
            ids == 0,
        ),
        (
            "WAL written by quiet looks".to_owned(),
            format!("{wal} bytes"),
            "0".to_owned(),
            wal == 0,
        ),
    ];
    let header = ["", "measured", "to reach", ""];
    let mut table = vec![
        row(&header.map(str::to_owned)),
        "|---|---|---|---|".to_owned(),
    ];
    let missed = lines.iter().filter(|(.., is_reached)| !is_reached).count();
    let targets = lines.len();
    table.extend(lines.map(|(what, measured, target, is_reached)| {
        row(&[what, measured, target, mark(is_reached)])
    }));
    format!(
        "{SUBSCRIPTIONS} subscriptions that stream, one of them with {} tables.\n\n{}\n\n{}\n",
        results.tables,
        table.join("\n"),
        verdict(missed, targets)
    )
}

/// The least of the second half against the least of the first, without the beginning: what an allocator keeps for a while
/// comes and goes, what leaks stays.
fn growth(memory: &[Memory]) -> i64 {
    let memory = memory.get(1..).unwrap_or_default();
    let (first, second) = memory.split_at(memory.len() / 2);
    let least = |half: &[Memory]| half.iter().map(|one| one.kilobytes.cast_signed()).min();
    least(second).unwrap_or(0) - least(first).unwrap_or(0)
}

fn memory(memory: &[Memory]) -> String {
    let mut looks = vec!["looks".to_owned()];
    looks.extend(memory.iter().map(|one| one.looks.to_string()));
    let mut kilobytes = vec!["kB".to_owned()];
    kilobytes.extend(memory.iter().map(|one| one.kilobytes.to_string()));
    let rule = "|---".repeat(looks.len());
    format!("{}\n{rule}|\n{}\n", row(&looks), row(&kilobytes))
}

fn notes(results: &Results, environment: &Environment) -> String {
    let of = |cost: &Cost, interval: &str| {
        format!(
            "- At {interval}: {} looks in {:.0} s, {:.2} ms of CPU for each, {} transaction ids, {} bytes of WAL.",
            cost.looks,
            cost.seconds,
            cost.cpu * 1e3 / f64::from(cost.looks),
            cost.transaction_ids,
            cost.wal_bytes
        )
    };
    let mut lines = vec![
        "- The server is publisher and subscriber at once, replwarden preloaded and asking the publisher. Nothing is written \
         to any table."
            .to_owned(),
        of(&results.usual, INTERVAL),
        of(&results.compressed, SHORT_INTERVAL)
            + " There may have been more looks than were seen.",
        format!(
            "- Memory is the worker's resident anonymous memory (RssAnon), its growth the least of the second half of the \
             readings against the least of the first, the beginning aside; {SETTLING} looks came before it."
        ),
    ];
    lines.extend(environment.lines().map(|line| format!("- {line}")));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::{Memory, growth};

    fn growth_of(readings: &[u64]) -> i64 {
        let readings = readings.iter().map(|&kilobytes| Memory {
            looks: 0,
            kilobytes,
        });
        growth(&readings.collect::<Vec<_>>())
    }

    #[test]
    fn what_stays_is_growth() {
        assert_eq!(growth_of(&[10, 50, 60, 70, 80]), 20);
        assert_eq!(growth_of(&[10, 50, 80, 50, 80]), 0);
        assert_eq!(growth_of(&[10]), 0);
    }
}
