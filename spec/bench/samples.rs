//! Several runs of the same thing. The median speaks for them: a run that something else on the machine
//! disturbed does not move it.

use anyhow::Result;

/// Measured values, ordered.
#[derive(Debug, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Of one run or more.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "a figure rests on at least one run");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// How much longer the second of each pair took.
    pub fn differences(pairs: &[(f64, f64)]) -> Self {
        Self::of(pairs.iter().map(|(without, with)| with - without))
    }

    /// How many times as long the second of each pair took.
    pub fn ratios(pairs: &[(f64, f64)]) -> Self {
        Self::of(pairs.iter().map(|(without, with)| with / without))
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 { self.0[middle] } else { f64::midpoint(self.0[middle - 1], self.0[middle]) }
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// Between which values half of the runs and all of them lie.
    pub fn spread(&self) -> String {
        let last = self.0.len() - 1;
        let (low, high) = (self.0[last / 4], self.0[last - last / 4]);
        format!(
            "half of {} runs within {low:.3} to {high:.3}, all within {:.3} to {:.3}",
            self.0.len(),
            self.0[0],
            self.max()
        )
    }
}

/// One run of each side, the order changing with each round: what is warm or worn by then is so for both.
pub fn in_turn<T>(
    round: usize,
    first: impl FnOnce() -> Result<T>,
    second: impl FnOnce() -> Result<T>,
) -> Result<(T, T)> {
    if round.is_multiple_of(2) {
        let first = first()?;
        Ok((first, second()?))
    } else {
        let second = second()?;
        Ok((first()?, second))
    }
}
