//! Acting: one step at a time, each written down before it is done, each safe to repeat and safe to die
//! after. Every step is a fail point.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;

use super::aside;
use super::decide::plan::{Bootstrap, Plan};
use super::decide::step::Step;
use super::record_files::{self, NonceFile};
use super::records::{BootPhase, BootstrapRecord, ExitRecord};
use crate::datadir::{self, Found};
use crate::etcd::config::{self, EtcdConfig, InitialState};
use crate::etcd::id::{ClientUrl, PeerUrl};
use crate::etcd::process::{EtcdProcess, Program};
use crate::etcd::tls::{Files, Role};
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::properties::CompactionMode;
use crate::lifecycle::records;
use crate::{atomic_file, fail_point, journal};

/// What acting needs besides the plan.
pub struct Actor<'a> {
    /// The job.
    pub job: &'a JobConfig,
    /// Its files.
    pub paths: &'a Paths,
    /// The etcd binary.
    pub binary: &'a Path,
}

impl Actor<'_> {
    /// Takes the steps of a plan up to and including the start of etcd; the steps behind it are in
    /// [`Actor::after_spawn`]. `None`: the plan does not start etcd; observe again.
    pub fn act(&self, plan: &Plan) -> anyhow::Result<Option<EtcdProcess>> {
        let mut etcd = None;
        for step in plan.steps() {
            fail_point::reach(&step.fail_point());
            match step {
                Step::Spawn => etcd = Some(self.spawn()?),
                _ if etcd.is_some() => break,
                _ => self.take(step, plan).with_context(|| format!("step {step} of plan {}", plan.name()))?,
            }
        }
        Ok(etcd)
    }

    /// Takes the steps that follow the start of etcd, once it has a log.
    pub async fn after_spawn(&self, plan: &Plan) -> anyhow::Result<()> {
        let steps = plan.steps();
        let rest: Vec<Step> = steps.into_iter().skip_while(|step| *step != Step::Spawn).skip(1).collect();
        if rest.is_empty() {
            return Ok(());
        }
        self.first_log().await;
        for step in rest {
            fail_point::reach(&step.fail_point());
            self.take(step, plan).with_context(|| format!("step {step} of plan {}", plan.name()))?;
        }
        Ok(())
    }

    /// Waits until etcd's log has an entry: only then is there a member to speak of. The caller stops
    /// waiting when etcd ends.
    async fn first_log(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        // What cannot be looked at in this moment is looked at again.
        while !matches!(datadir::classify(&self.paths.data_dir(), None), Ok(Found::Data(_))) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn take(&self, step: Step, plan: &Plan) -> anyhow::Result<()> {
        let paths = self.paths;
        match (step, plan) {
            (Step::WriteNonce, _) => {
                let nonce = record_files::fresh_nonce().context("make a nonce")?;
                journal::info("this disk has a nonce now", &json!({"nonce": nonce}));
                records::write(paths, &NonceFile { nonce })?;
            }
            (Step::MoveAside, Plan::Bootstrap(Bootstrap { clear: Some(clear), .. })) => {
                let moved = aside::move_member(paths, clear.reason, jiff::Timestamp::now())?;
                journal::warn(
                    "data was moved aside",
                    &json!({"to": moved, "reason": clear.reason, "next": "remove it when nobody needs it any more"}),
                );
            }
            (Step::WriteBootstrapRecord, Plan::Bootstrap(bootstrap)) => {
                records::write(paths, &bootstrap.record())?;
            }
            (Step::CompleteBootstrapRecord, _) => {
                if let Some(record) = records::read::<BootstrapRecord>(paths)? {
                    records::write(paths, &BootstrapRecord { phase: BootPhase::Running, ..record })?;
                }
            }
            (Step::WriteConfiguration, Plan::Bootstrap(bootstrap)) => {
                self.write_configuration(Some(bootstrap))?;
            }
            (Step::WriteConfiguration, _) => self.write_configuration(None)?,
            (Step::RemoveExitRecord, _) => records::remove::<ExitRecord>(paths)?,
            // Written once in the life of a VM: on every later start the wait for the disk would buy nothing.
            (Step::WriteInitialisedMark, _) if paths.initialised_mark().exists() => {}
            (Step::WriteInitialisedMark, _) => atomic_file::write(&paths.initialised_mark(), b"", 0o600)?,
            // `decide::honest` turns plans with other steps into refusals; were one to come here, nothing
            // has been touched yet.
            (step, plan) => bail!("this version does not take step {step} (plan {})", plan.name()),
        }
        Ok(())
    }

    fn spawn(&self) -> anyhow::Result<EtcdProcess> {
        let program =
            Program { binary: self.binary.to_owned(), configuration: self.paths.etcd_configuration() };
        EtcdProcess::spawn(&program).with_context(|| format!("start {}", program.binary.display()))
    }

    fn write_configuration(&self, bootstrap: Option<&Bootstrap>) -> anyhow::Result<()> {
        let text = config::render(&self.configuration(bootstrap)?)?;
        let path = self.paths.etcd_configuration();
        // Every start writes it anew before etcd reads it.
        atomic_file::write_for_now(&path, text.as_bytes(), 0o640)
            .with_context(|| format!("write {}", path.display()))
    }

    /// What etcd is started with. With data on the disk etcd ignores the initial cluster but still checks
    /// its syntax, so the own entry alone stands there (docs/contract.md#etcd-config).
    pub fn configuration(&self, bootstrap: Option<&Bootstrap>) -> anyhow::Result<EtcdConfig> {
        let (job, properties) = (self.job, &self.job.properties);
        let own = job.own();
        let initial_cluster = match bootstrap {
            Some(bootstrap) => bootstrap
                .members
                .iter()
                .map(|(instance, url)| Ok((instance.0.parse()?, BTreeSet::from([url.clone()]))))
                .collect::<anyhow::Result<_>>()?,
            None => BTreeMap::from([(job.name.clone(), BTreeSet::from([own.peer_url.clone()]))]),
        };
        Ok(EtcdConfig {
            release_line: properties.etcd_version.parse()?,
            name: job.name.clone(),
            data_dir: self.paths.data_dir(),
            wal_dir: None,
            listen_peer_urls: BTreeSet::from([PeerUrl::https(
                &job.peer_listen_ip().to_string(),
                properties.peer_port,
            )]),
            listen_client_urls: BTreeSet::from([ClientUrl::https(
                &job.client_listen_ip().to_string(),
                properties.client_port,
            )]),
            listen_metrics_urls: properties
                .metrics_port
                .map(|port| ClientUrl::https(&job.private_listen_ip().to_string(), port))
                .into_iter()
                .collect(),
            initial_advertise_peer_urls: BTreeSet::from([own.peer_url.clone()]),
            advertise_client_urls: BTreeSet::from([own.client_url.clone()]),
            initial_cluster,
            initial_cluster_state: if bootstrap.is_some() {
                InitialState::New
            } else {
                InitialState::Existing
            },
            initial_cluster_token: bootstrap.map(|bootstrap| bootstrap.token.to_string()).unwrap_or_default(),
            server: Files::of(&self.paths.config(), Role::Server),
            peer: Files::of(&self.paths.config(), Role::Peer),
            heartbeat_interval: properties.heartbeat_interval,
            election_timeout: properties.election_timeout,
            snapshot_count: properties.snapshot_count,
            quota_backend_bytes: properties.quota_backend_bytes,
            max_request_bytes: properties.max_request_bytes,
            max_txn_ops: properties.max_txn_ops,
            auto_compaction_mode: match properties.auto_compaction_mode {
                CompactionMode::Periodic => "periodic",
                CompactionMode::Revision => "revision",
            }
            .to_owned(),
            auto_compaction_retention: properties.auto_compaction_retention.clone(),
            initial_corrupt_check: properties.initial_corrupt_check,
            compact_hash_check: true,
            corrupt_check_time: properties.corrupt_check_time,
            log_level: properties.log_level.clone(),
            metrics: properties.metrics.clone(),
        })
    }
}
