//! Release lines of etcd on one disk: each step up is taken, every other one is refused before anything is touched.
//!
//! Weakness 31 of the predecessors: no check that the data is at most one minor release older, no guard against a
//! downgrade.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::unwrap_used, reason = "a spec that cannot go on has failed")]

mod support;

use std::time::Instant;

use support::fleet::{Answer, DEADLINE, Fleet};

/// The ops files of a line, for a single member.
fn ops(line: &str) -> Vec<String> {
    let mut ops = vec!["bootstrap.yml".to_owned(), "single-node.yml".to_owned()];
    if line != "3.6" {
        ops.push(format!("use-etcd-{line}.yml"));
    }
    ops
}

struct Member {
    fleet: Fleet,
    slug: String,
}

impl Member {
    fn deploy(&mut self, line: &str) -> Answer {
        let ops = ops(line);
        self.fleet.set_ops(&ops.iter().map(String::as_str).collect::<Vec<_>>());
        self.fleet.deploy()
    }

    /// Deploys, and demands that the data is there and served by this line.
    #[track_caller]
    fn goes_to(&mut self, line: &str) {
        self.deploy(line).succeeded();
        self.holds(line);
    }

    /// Waits until the cluster itself is of this line: etcd decides that some seconds after a start, and until then
    /// the line before could still be started.
    #[track_caller]
    fn holds(&self, line: &str) {
        let start = Instant::now();
        let version = "cd /var/vcap/jobs/etcd/config && curl --silent --cacert admin-ca.crt --cert admin.crt --key admin.key https://$(cat /var/vcap/instance/id).etcd.default.etcd.bosh:2379/version";
        loop {
            let seen = self.fleet.ssh(&self.slug, version).stdout;
            if seen.contains(&format!("\"etcdcluster\":\"{line}.")) {
                break;
            }
            assert!(start.elapsed() < DEADLINE, "never of {line}: {seen}");
        }
        let value = self.fleet.ssh(&self.slug, "etcdctl get kept --print-value-only").succeeded().stdout;
        assert_eq!(value.trim(), "1", "{line}");
    }

    /// Deploys, and demands a refusal of row 3 in these words; the deploy of `back` brings the member up again.
    #[track_caller]
    fn is_refused(&mut self, line: &str, words: &[&str], back: &str) {
        let answer = self.deploy(line).failed();
        let log = self.fleet.log(&self.slug, "etcd.stderr.log");
        let refused = log.lines().rev().find(|line| line.contains("\"row\":3")).unwrap_or_default();
        for word in words {
            assert!(refused.contains(word), "{word}: {refused}\n{}", answer.text());
        }
        assert!(!log.contains("panic"), "{log}");
        self.goes_to(back);
    }
}

#[test]
fn weakness_31_every_step_up_is_taken_and_every_other_one_is_refused_with_the_data_untouched() {
    let ops = ops("3.4");
    let fleet =
        Fleet::new(&ops.iter().map(String::as_str).collect::<Vec<_>>()).with_monit_cycle("1").deployed();
    let slug = fleet.slugs().remove(0);
    let mut member = Member { fleet, slug };
    let slug = member.slug.clone();
    member.fleet.ssh(&slug, "etcdctl put kept 1").succeeded();
    member.holds("3.4");

    member.is_refused("3.6", &["too new", "upgrade one minor release at a time"], "3.4");
    member.goes_to("3.5");
    member.is_refused("3.4", &["too old", "downgrade"], "3.5");
    member.is_refused("3.7", &["too new", "3.6"], "3.5");
    member.goes_to("3.6");
    member.goes_to("3.7");
    member.is_refused("3.6", &["too old"], "3.7");
}
