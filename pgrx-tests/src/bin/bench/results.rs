//! What was measured, and the medians of it.

use std::collections::BTreeMap;

use crate::variant::Variant;

/// In seconds per million rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quantity {
    /// Of the apply worker.
    ApplyCpu,
    /// Of the apply worker, above that of the plain column in the same round.
    ApplyCpuAbovePlain,
    CopyCpu,
    CopyWall,
    LocalCpu,
    LocalWall,
}

/// One value a round for each quantity and variant, from the first round on.
#[derive(Default)]
pub(crate) struct Results {
    values: BTreeMap<(Quantity, Variant), Vec<f64>>,
}

/// The median of the rounds, the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) greatest: f64,
}

impl Results {
    pub(crate) fn add(&mut self, quantity: Quantity, variant: Variant, value: f64) {
        self.values
            .entry((quantity, variant))
            .or_default()
            .push(value);
    }

    pub(crate) fn spread(&self, quantity: Quantity, variant: Variant) -> Spread {
        Spread::of(self.rounds(quantity, variant))
    }

    /// One variant against another. Both values of a ratio are of the same round, when the machine was most alike.
    pub(crate) fn ratio(&self, quantity: Quantity, variant: Variant, other: Variant) -> Spread {
        let others = self.rounds(quantity, other);
        let ratios = self.rounds(quantity, variant).into_iter().zip(others);
        Spread::of(ratios.map(|(value, other)| value / other).collect())
    }

    fn rounds(&self, quantity: Quantity, variant: Variant) -> Vec<f64> {
        let stored = |quantity, variant| {
            self.values
                .get(&(quantity, variant))
                .cloned()
                .unwrap_or_default()
        };
        if quantity != Quantity::ApplyCpuAbovePlain {
            return stored(quantity, variant);
        }
        let plain = stored(Quantity::ApplyCpu, Variant::Plain);
        stored(Quantity::ApplyCpu, variant)
            .into_iter()
            .zip(plain)
            .map(|(value, plain)| value - plain)
            .collect()
    }
}

impl Spread {
    /// `values` is not empty.
    pub(crate) fn of(values: Vec<f64>) -> Self {
        Self {
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            greatest: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            median: median(values),
        }
    }
}

/// `values` is not empty.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::{Quantity, Results, Spread, Variant, median};

    #[test]
    fn overhead_and_ratio_are_taken_within_a_round() {
        let mut results = Results::default();
        for (plain, rule, generated) in [(1.0, 2.0, 5.0), (2.0, 3.0, 4.0), (1.0, 1.5, 3.0)] {
            results.add(Quantity::ApplyCpu, Variant::Plain, plain);
            results.add(Quantity::ApplyCpu, Variant::Rule, rule);
            results.add(Quantity::ApplyCpu, Variant::Generated, generated);
        }
        let quantity = Quantity::ApplyCpuAbovePlain;
        assert_eq!(
            results.spread(quantity, Variant::Rule),
            Spread {
                least: 0.5,
                median: 1.0,
                greatest: 1.0
            }
        );
        assert_eq!(
            results.ratio(quantity, Variant::Rule, Variant::Generated),
            Spread {
                least: 0.25,
                median: 0.25,
                greatest: 0.5
            }
        );
    }

    #[test]
    fn median_of_an_even_number_lies_between() {
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
