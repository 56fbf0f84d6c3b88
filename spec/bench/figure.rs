//! One figure: what a run measured, under a name that stays.

use std::path::Path;

use anyhow::{Context, Result};
use etcd_release::atomic_file;
use serde_json::{Value, json};

use crate::samples::Samples;

/// A measured number.
#[derive(Debug, Clone)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// How far single runs lie from the value.
    spread: Option<String>,
    /// The most it should be.
    goal: Option<f64>,
}

impl Figure {
    /// A number that does not vary, or is the worst of several.
    pub fn exact(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, spread: None, goal: None }
    }

    /// The median of several runs.
    pub fn median(name: impl Into<String>, samples: &Samples, unit: &'static str) -> Self {
        Self { spread: Some(samples.spread()), ..Self::exact(name, samples.median(), unit) }
    }

    /// The value should not be larger than this.
    pub fn goal(self, at_most: f64) -> Self {
        Self { goal: Some(at_most), ..self }
    }

    /// `name value unit`.
    pub fn line(&self) -> String {
        format!("{} {} {}", self.name, self.rounded(), self.unit)
    }

    /// How much it varies, and the goal.
    pub fn remark(&self) -> String {
        let mut parts = Vec::from_iter(self.spread.clone());
        if let Some(goal) = self.goal {
            let verdict = if self.value <= goal { "met" } else { "MISSED" };
            parts.push(format!("goal at most {goal} {}: {verdict}", self.unit));
        }
        if parts.is_empty() {
            parts.push("no goal".to_owned());
        }
        format!("{}: {}", self.name, parts.join("; "))
    }

    fn rounded(&self) -> f64 {
        (self.value * 1000.0).round() / 1000.0
    }

    fn json(&self) -> Value {
        json!({"name": self.name, "value": self.rounded(), "unit": self.unit, "spread": self.spread, "goal_max": self.goal})
    }
}

/// Writes all figures as JSON.
pub fn write_json(path: &Path, figures: &[Figure]) -> Result<()> {
    let figures: Vec<Value> = figures.iter().map(Figure::json).collect();
    atomic_file::write_json(path, &json!({"version": 1, "figures": figures}), 0o644)
        .with_context(|| format!("write the figures to {}", path.display()))
}
