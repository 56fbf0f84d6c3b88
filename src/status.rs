//! One look at the whole cluster, as `etcd-status` shows it: what each launcher decided and why, and
//! what each etcd says of itself.
//!
//! Every instance is asked in parallel under one deadline, so that a cluster that is half down is told
//! about as quickly as a healthy one.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::etcd::client::{EtcdClient, Membership, Status};
use crate::etcd::id::{ClusterId, MemberId};
use crate::etcd::member::Member;
use crate::job::config::{JobConfig, Peer};
use crate::job::lifetime::{End, Lifetime, first_to_end, lifetimes};
use crate::job::reach::{self, Reach};
use crate::lifecycle::launch::listener::CatchingUp;
use crate::lifecycle::launch::observation::Unreachable;
use crate::lifecycle::launch::validation::Told;
use crate::lifecycle::launcher_page;

mod alarm;
mod outage;

/// The version of the JSON this tool prints. Fields are added, never changed, within one version.
pub const VERSION: u32 = 1;
/// No instance is waited for longer.
const LIMIT: Duration = Duration::from_millis(1500);

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// Version of this document.
    pub version: u32,
    /// The deployment.
    pub deployment: String,
    /// The cluster, where a member tells it through a linearizable read.
    pub cluster_id: Option<ClusterId>,
    /// The leader, likewise.
    pub leader: Option<MemberId>,
    /// The member list, likewise; empty without quorum.
    pub members: Vec<Member>,
    /// Every instance of the link.
    pub instances: Vec<InstanceStatus>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstanceStatus {
    /// Instance id.
    pub instance: String,
    /// DNS name or address.
    pub address: String,
    /// Whether it serves linearizable reads; the reason if not.
    pub ready: Result<(), String>,
    /// Its launcher's last decision; the reason if it does not answer.
    pub launcher: Result<Decision, String>,
    /// Its etcd; the reason if it does not answer.
    pub etcd: Result<EtcdStatus, String>,
    /// When its certificates end, as its launcher tells it, or as this instance's files do; empty if unknown.
    pub certificates: Vec<Lifetime>,
}

/// What a launcher decided last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Row of the launch table.
    pub row: u64,
    /// Name of the plan.
    pub plan: String,
    /// Why, in a sentence.
    pub because: String,
    /// What its disk is.
    pub disk: String,
    /// How far it is.
    pub progress: String,
    /// How far the check of its data is, or what it said.
    pub validation: Told,
    /// How far a learner is, while it catches up with the leader.
    pub catching_up: Option<CatchingUp>,
}

/// What an etcd says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EtcdStatus {
    /// Server version.
    pub server: String,
    /// Member id.
    pub member_id: MemberId,
    /// Whether it leads.
    pub is_leader: bool,
    /// Whether it is a learner.
    pub is_learner: bool,
    /// Raft term.
    pub raft_term: u64,
    /// Applied raft index.
    pub raft_applied_index: u64,
    /// Size of the backend in bytes.
    pub db_size_bytes: i64,
    /// Alarms and complaints.
    pub errors: Vec<String>,
}

impl ClusterStatus {
    /// Whether every instance of the link serves and is a voter.
    pub fn is_healthy(&self) -> bool {
        self.cluster_id.is_some()
            && self.instances.iter().all(|instance| {
                instance.ready.is_ok()
                    && instance.etcd.as_ref().is_ok_and(|etcd| !etcd.is_learner && etcd.errors.is_empty())
            })
    }
}

/// Asks everybody; `config` is where this instance has its certificates.
pub async fn gather(job: &JobConfig, reach: &Reach, config: &Path) -> ClusterStatus {
    let mut questions = tokio::task::JoinSet::new();
    for (place, peer) in job.instances.iter().cloned().enumerate() {
        let reach = reach.clone();
        questions.spawn(async move { (place, ask(&peer, &reach).await) });
    }
    let mut answers = questions.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    let membership = answers.iter().find_map(|(_, (_, membership))| membership.clone());
    let mut instances: Vec<InstanceStatus> = answers.into_iter().map(|(_, (instance, _))| instance).collect();
    // With a certificate that has ended no launcher can be asked, and that is when it matters.
    for own in instances.iter_mut().filter(|one| one.instance == job.own().instance) {
        if own.certificates.is_empty() {
            own.certificates = lifetimes(config);
        }
    }
    ClusterStatus {
        version: VERSION,
        deployment: job.spec.deployment.clone(),
        cluster_id: membership.as_ref().map(|membership| membership.cluster_id),
        leader: instances
            .iter()
            .filter_map(|instance| instance.etcd.as_ref().ok())
            .find(|etcd| etcd.is_leader)
            .map(|etcd| etcd.member_id),
        members: membership.map(|membership| membership.members).unwrap_or_default(),
        instances,
    }
}

async fn ask(peer: &Peer, reach: &Reach) -> (InstanceStatus, Option<Membership>) {
    let launcher = reach::launcher(peer);
    let (state, ready, etcd) = tokio::join!(
        launcher_page(&launcher, "/state", reach, LIMIT),
        launcher_page(&launcher, "/readyz", reach, LIMIT),
        ask_etcd(peer, reach),
    );
    let state = match state {
        Ok(page) => serde_json::from_slice::<Value>(&page.body).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    // A launcher of an earlier release does not tell them.
    let certificates = state
        .as_ref()
        .ok()
        .and_then(|state| serde_json::from_value(state["certificates"].clone()).ok())
        .unwrap_or_default();
    let launcher = state.and_then(|state| decision(&state));
    let ready = match ready {
        Ok(page) if page.status == 200 => Ok(()),
        Ok(page) => Err(String::from_utf8_lossy(&page.body).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let (etcd, membership) = match etcd {
        Ok((status, membership)) => (Ok(etcd_status(&status)), membership),
        Err(error) => (Err(error), None),
    };
    let status = InstanceStatus {
        instance: peer.instance.clone(),
        address: peer.address.clone(),
        ready,
        launcher,
        etcd,
        certificates,
    };
    (status, membership)
}

async fn ask_etcd(peer: &Peer, reach: &Reach) -> Result<(Status, Option<Membership>), String> {
    let mut client = EtcdClient::connect(&reach::etcd(peer), reach.grpc.clone(), LIMIT)
        .await
        .map_err(|error| error.to_string())?;
    let status = client.status().await.map_err(|error| error.to_string())?;
    // Without quorum there is no list anybody should act on; the status above is told all the same.
    let membership = client.linearizable_members().await.ok();
    Ok((status, membership))
}

fn decision(state: &Value) -> Result<Decision, String> {
    let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
    // It serves its pages before it has looked around.
    if state.is_null() {
        return Err(Unreachable::Undecided.to_string());
    }
    Ok(Decision {
        row: state["row"].as_u64().unwrap_or_default(),
        plan: text("plan"),
        because: text("because"),
        disk: text("disk"),
        progress: text("progress"),
        // A launcher of an earlier release does not tell.
        validation: serde_json::from_value(state["validation"].clone()).unwrap_or_default(),
        catching_up: serde_json::from_value(state["catching_up"].clone()).ok(),
    })
}

fn etcd_status(status: &Status) -> EtcdStatus {
    EtcdStatus {
        server: status.version.clone(),
        member_id: status.member_id,
        is_leader: status.leader == Some(status.member_id),
        is_learner: status.is_learner,
        raft_term: status.raft_term,
        raft_applied_index: status.raft_applied_index,
        db_size_bytes: status.db_size_bytes,
        errors: status.errors.clone(),
    }
}

/// The table for people, at `now` in seconds since 1970.
pub fn table(status: &ClusterStatus, now_unix_secs: i64) -> String {
    let mut text = String::new();
    let cluster = status.cluster_id.map_or_else(|| "no quorum".to_owned(), |id| format!("cluster {id}"));
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        text.write_fmt(arguments)
            .and_then(|()| text.write_char('\n'))
            .expect("writing to a String cannot fail");
    };
    line(format_args!("Deployment '{}', {cluster}, {} members\n", status.deployment, status.members.len()));
    for instance in &status.instances {
        let role = match &instance.etcd {
            Ok(etcd) if etcd.is_leader => "leader",
            Ok(etcd) if etcd.is_learner => "learner",
            Ok(_) => "follower",
            Err(_) => "down",
        };
        let ready = if instance.ready.is_ok() { "ready" } else { "not ready" };
        line(format_args!("{}  {role}  {ready}  {}", instance.instance, instance.address));
        match &instance.etcd {
            Ok(etcd) => {
                let mut errors = etcd.errors.join(", ");
                if errors.is_empty() {
                    errors.push_str("no alarms");
                }
                line(format_args!(
                    "  etcd      member {}, {}, term {}, applied {}, {} KiB, {errors}",
                    etcd.member_id,
                    etcd.server,
                    etcd.raft_term,
                    etcd.raft_applied_index,
                    etcd.db_size_bytes / 1024,
                ));
            }
            Err(why) => line(format_args!("  etcd      {why}")),
        }
        match &instance.launcher {
            Ok(decision) => line(format_args!(
                "  launcher  row {}, {}: {} ({}, disk {})",
                decision.row, decision.plan, decision.because, decision.progress, decision.disk
            )),
            Err(why) => line(format_args!("  launcher  {why}")),
        }
        let checked = instance.launcher.as_ref().ok().and_then(|decision| decision.validation.words());
        if let Some(words) = checked {
            line(format_args!("  data      {words}"));
        }
        if let Ok(Decision { catching_up: Some(CatchingUp { applied, of }), .. }) = &instance.launcher {
            line(format_args!("  learner   has {applied} of {of} raft entries"));
        }
        if let Err(why) = &instance.ready {
            line(format_args!("  ready     no: {why}"));
        }
        if let Some(first) = first_to_end(&instance.certificates) {
            line(format_args!("  certs     first {}: {}", first.name(), first.words(now_unix_secs)));
        }
    }
    for words in outage::words(status).into_iter().chain(alarm::words(status)) {
        line(format_args!("\n{words}"));
    }
    for (lifetime, instances) in ending(status, now_unix_secs) {
        line(format_args!(
            "\nwarning: {} {} on {}",
            lifetime.name(),
            lifetime.words(now_unix_secs),
            instances.join(", ")
        ));
        line(format_args!(
            "  why:  connections that are open stay open, every new one is refused from then on"
        ));
        line(format_args!("  next: {}", lifetime.remedy(&status.deployment)));
    }
    text.trim_end().to_owned()
}

/// What has ended or does so soon, each certificate once, and where.
fn ending(status: &ClusterStatus, now_unix_secs: i64) -> Vec<(&Lifetime, Vec<&str>)> {
    let mut found: Vec<(&Lifetime, Vec<&str>)> = Vec::new();
    for instance in &status.instances {
        for one in instance.certificates.iter().filter(|one| one.end(now_unix_secs) != End::Far) {
            match found.iter_mut().find(|(known, _)| *known == one) {
                Some((_, instances)) => instances.push(&instance.instance),
                None => found.push((one, vec![&instance.instance])),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datadir::verdict::{Mode, Verdict};

    fn instance(name: &str, ready: bool) -> InstanceStatus {
        let down = || "connection refused".to_owned();
        InstanceStatus {
            instance: name.to_owned(),
            address: format!("{name}.etcd.default.etcd.bosh"),
            ready: if ready { Ok(()) } else { Err(down()) },
            launcher: if ready {
                Ok(Decision {
                    row: 4,
                    plan: "start".to_owned(),
                    because: "its own cluster serves and lists it".to_owned(),
                    disk: "data".to_owned(),
                    progress: "success".to_owned(),
                    validation: Told::Success {
                        mode: Mode::Full,
                        verdict: Verdict::Sound,
                        findings: Vec::new(),
                        took_ms: 12,
                        bytes: 20480,
                    },
                    catching_up: None,
                })
            } else {
                Err(down())
            },
            etcd: if ready {
                Ok(EtcdStatus {
                    server: "3.6.16".to_owned(),
                    member_id: MemberId(10),
                    is_leader: true,
                    is_learner: false,
                    raft_term: 2,
                    raft_applied_index: 9,
                    db_size_bytes: 20480,
                    errors: Vec::new(),
                })
            } else {
                Err(down())
            },
            certificates: if ready {
                [("server", 10), ("peer-ca", 40), ("peer", 31)].map(lifetime).into()
            } else {
                Vec::new()
            },
        }
    }

    /// Ends so many days after 1970 began.
    fn lifetime((certificate, day): (&str, i64)) -> Lifetime {
        Lifetime {
            certificate: certificate.to_owned(),
            subject: "etcd_peer_ca".to_owned(),
            serial: "0a".to_owned(),
            not_after_unix_secs: day * 86_400,
            not_after: jiff::Timestamp::from_second(day * 86_400).unwrap().to_string(),
        }
    }

    #[test]
    fn what_ends_soon_is_told_once_with_the_instances_and_the_next_command() {
        let status = ClusterStatus {
            version: VERSION,
            deployment: "orders".to_owned(),
            cluster_id: None,
            leader: None,
            members: Vec::new(),
            instances: vec![instance("a", true), instance("b", true)],
        };
        let warnings = |day: i64| {
            let text = table(&status, day * 86_400);
            text.split_once("\n\nwarning").map(|(_, rest)| format!("warning{rest}")).unwrap_or_default()
        };

        assert_eq!(warnings(-21), "");
        insta::assert_snapshot!(warnings(11), @r"
        warning: server ended 1 day ago (1970-01-11T00:00:00Z) on a, b
          why:  connections that are open stay open, every new one is refused from then on
          next: `credhub regenerate -n /DIRECTOR/orders/etcd_server` and `bosh -d orders deploy deployment/etcd.yml`; docs/certificates.md#renew

        warning: CA etcd_peer_ca in peer-ca ends in 29 days (1970-02-10T00:00:00Z) on a, b
          why:  connections that are open stay open, every new one is refused from then on
          next: replace the CA in three deploys of orders, of which the first is `bosh -d orders deploy deployment/etcd.yml -o deployment/operations/trust-two-peer-cas.yml`; docs/certificates.md#rotate-ca

        warning: peer ends in 20 days (1970-02-01T00:00:00Z) on a, b
          why:  connections that are open stay open, every new one is refused from then on
          next: `credhub regenerate -n /DIRECTOR/orders/etcd_peer` and `bosh -d orders deploy deployment/etcd.yml`; docs/certificates.md#renew
        ");
    }

    #[test]
    fn a_launcher_that_has_only_just_started_is_told_as_such() {
        assert_eq!(decision(&Value::Null).unwrap_err(), "its launcher has not decided anything yet");
        assert_eq!(decision(&serde_json::json!({"row": 7, "plan": "wait"})).unwrap().row, 7);
    }

    #[test]
    fn an_alarm_is_told_once_with_the_sizes_of_all_databases() {
        let mut instances = vec![instance("a", true), instance("b", true), instance("c", false)];
        for one in &mut instances[..2] {
            if let Ok(etcd) = &mut one.etcd {
                etcd.errors = vec!["memberID:10 alarm:NOSPACE ".to_owned()];
            }
        }
        let mut status = ClusterStatus {
            version: VERSION,
            deployment: "orders".to_owned(),
            cluster_id: Some(ClusterId(1)),
            leader: None,
            members: Vec::new(),
            instances,
        };

        insta::assert_snapshot!(alarm::words(&status).concat(), @r"
        error: a database is full: no write is taken, reads and deletions are (memberID:10 alarm:NOSPACE; a 20 KiB, b 20 KiB)
          why:  the alarm stays when there is room again, until it is taken away
          next: delete what nobody needs, compact, defragment one member after the other, then `etcdctl alarm disarm`; docs/recover.md#no-space
        ");
        if let Ok(etcd) = &mut status.instances[1].etcd {
            etcd.errors = vec!["memberID:11 alarm:CORRUPT ".to_owned()];
        }
        assert_eq!(alarm::words(&status).len(), 2);
    }

    #[test]
    fn without_quorum_it_tells_who_is_missing_and_the_way_back() {
        let mut waits = instance("b", true);
        waits.etcd = Err("connection refused".to_owned());
        if let Ok(decision) = &mut waits.launcher {
            (decision.disk, decision.because) = ("empty".to_owned(), "no cluster serves".to_owned());
        }
        let status = ClusterStatus {
            version: VERSION,
            deployment: "orders".to_owned(),
            cluster_id: None,
            leader: None,
            members: Vec::new(),
            instances: vec![instance("a", true), waits, instance("c", false)],
        };

        let told = table(&status, -30 * 86_400);
        insta::assert_snapshot!(told[told.find("error").expect("it says so")..], @r"
        error: no quorum: 1 of 3 members answer, 2 are needed
          missing b: has no data that can be used (disk empty): no cluster serves
          missing c: silent: connection refused
          why:  no write succeeds; with the silent ones there may be a majority, and nothing is lost
          next: bring the silent ones back: `bosh -d orders cck`, then `bosh -d orders start`; never remove a member by hand; docs/lost.md#quorum
        ");
    }

    #[test]
    fn the_table_tells_role_decision_and_what_is_wrong() {
        let status = ClusterStatus {
            version: VERSION,
            deployment: "etcd".to_owned(),
            cluster_id: Some(ClusterId(0xabc)),
            leader: Some(MemberId(10)),
            members: Vec::new(),
            instances: vec![instance("a", true), instance("b", false)],
        };

        assert!(!status.is_healthy());
        insta::assert_snapshot!(table(&status, -30 * 86_400), @r"
        Deployment 'etcd', cluster abc, 0 members

        a  leader  ready  a.etcd.default.etcd.bosh
          etcd      member a, 3.6.16, term 2, applied 9, 20 KiB, no alarms
          launcher  row 4, start: its own cluster serves and lists it (success, disk data)
          data      full, sound (12 ms)
          certs     first server: ends in 40 days (1970-01-11T00:00:00Z)
        b  down  not ready  b.etcd.default.etcd.bosh
          etcd      connection refused
          launcher  connection refused
          ready     no: connection refused
        ");
    }
}
