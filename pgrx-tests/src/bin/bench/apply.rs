//! Applying a stream of inserted rows.

use std::collections::BTreeMap;

use crate::cpu;
use crate::results::median;
use crate::stand::Stand;
use crate::variant::Variant;

/// Some 6 MB of changes: well below logical_decoding_work_mem, so that the publisher neither spills nor streams.
pub(crate) const ROWS_PER_TRANSACTION: u32 = 25_000;

/// Seconds of CPU time of the apply worker per row of each variant. The wall time is not worth knowing: most of it
/// belongs to the publisher, which decodes at the same time.
///
/// What a rule costs is a small difference between large figures, and a machine's speed wanders by more than that within
/// seconds. So one and the same worker gets a transaction of each variant in turn, again and again, and the median
/// transaction counts.
pub(crate) fn measure(
    stand: &Stand,
    variants: &[Variant],
) -> Result<BTreeMap<Variant, f64>, String> {
    let worker = stand.pair().apply_worker_pid().unsigned_abs();
    let mut variants = variants.to_vec();
    let mut per_row: BTreeMap<Variant, Vec<f64>> = BTreeMap::new();
    let mut first = 1;
    while first <= stand.rows() {
        let last = (first + ROWS_PER_TRANSACTION - 1).min(stand.rows());
        for &variant in &variants {
            let before = cpu::of_process(worker)?;
            // The rows reach the worker after the commit, so the INSERT itself does not compete with it.
            stand.insert_on_publisher(variant, first, last);
            stand.pair().wait_caught_up();
            let seconds = cpu::of_process(worker)? - before;
            per_row
                .entry(variant)
                .or_default()
                .push(seconds / f64::from(last - first + 1));
        }
        variants.reverse();
        first = last + 1;
    }
    Ok(per_row
        .into_iter()
        .map(|(variant, values)| (variant, median(values)))
        .collect())
}
