//! What the scripts ask their own launcher.

use std::time::Duration;

use serde_json::Value;

use super::launch::decide::waiting::Until;
use super::launcher_page;
use crate::job::config::JobConfig;
use crate::job::reach::{self, Reach};

/// No page takes longer.
const LIMIT: Duration = Duration::from_secs(3);

/// What the own launcher says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launcher {
    /// It does not answer.
    Silent {
        /// Why not.
        why: String,
    },
    /// It has decided.
    Decided {
        /// Name of the plan.
        plan: String,
        /// Why, in a sentence.
        because: String,
        /// Why it matters; empty unless it waits or refuses.
        why: String,
        /// What to do next; empty unless it waits or refuses.
        next: String,
        /// Who ends the wait, if it waits.
        until: Option<Until>,
    },
}

/// Whether this member serves linearizable reads.
pub async fn is_ready(job: &JobConfig, reach: &Reach) -> bool {
    let answer = launcher_page(&reach::own_launcher(job), "/readyz", reach, LIMIT).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Asks for the last decision.
pub async fn decision(job: &JobConfig, reach: &Reach) -> Launcher {
    let page = match launcher_page(&reach::own_launcher(job), "/state", reach, LIMIT).await {
        Ok(page) => page,
        Err(error) => return Launcher::Silent { why: error.to_string() },
    };
    let state: Value = serde_json::from_slice(&page.body).unwrap_or_default();
    match state["plan"].as_str() {
        None => Launcher::Silent { why: "it has not decided yet".to_owned() },
        Some(plan) => {
            let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
            Launcher::Decided {
                plan: plan.to_owned(),
                because: text("because"),
                why: text("why"),
                next: text("next"),
                until: serde_json::from_value(state["until"].clone()).ok(),
            }
        }
    }
}
