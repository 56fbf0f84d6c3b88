use super::*;
use crate::datadir::validate::findings::{Details, Effect, Findings};

#[test]
fn the_worst_comes_first_and_the_verdict_last() {
    let mut findings = Findings::default();
    findings.add(Effect::Runs.finding("member", "its mode is 0755, etcd's own is 0700"));
    findings.add(
        Effect::Ends
            .finding("member/snap/db", "page 7 at byte 28672: is referred to twice")
            .at(28672)
            .in_place("bucket 'key'"),
    );

    insta::assert_snapshot!(page(&findings.report(Mode::Full)), @r"
    damage: member/snap/db, byte 28672, bucket 'key'
      what:    page 7 at byte 28672: is referred to twice
      matters: etcd does not start on it: it ends as soon as it reads this
      next:    start no etcd on it; replace this member from its cluster, or restore a backup if there is none (docs/contract.md#damaged)

    warning: member
      what:    its mode is 0755, etcd's own is 0700
      matters: etcd runs on it
      next:    nothing

    verdict: damaged (etcd does not start on it, or would serve something wrong)
    ");
}

#[test]
fn a_quick_look_says_that_it_was_one() {
    insta::assert_snapshot!(page(&Findings::default().report(Mode::Sanity)), @r"
    verdict: sound (etcd starts on it, and nothing is lost)
    Only the beginnings were read: '--mode full' reads everything.
    ");
}
