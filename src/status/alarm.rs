//! Alarms of etcd, and what to do about each (docs/recover.md).

use std::fmt::Write;

use super::ClusterStatus;

/// An alarm that etcd keeps until somebody takes it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alarm {
    /// The database of a member has reached its quota: the whole cluster takes no writes.
    NoSpace,
    /// The data of a member is not that of the others.
    Corrupt,
}

impl Alarm {
    const ALL: [Self; 2] = [Self::NoSpace, Self::Corrupt];

    /// As etcd writes it among the errors of its status: `memberID:12 alarm:NOSPACE`.
    const fn text(self) -> &'static str {
        match self {
            Self::NoSpace => "alarm:NOSPACE",
            Self::Corrupt => "alarm:CORRUPT",
        }
    }

    const fn words(self) -> [&'static str; 3] {
        match self {
            Self::NoSpace => [
                "a database is full: no write is taken, reads and deletions are",
                "the alarm stays when there is room again, until it is taken away",
                "delete what nobody needs, compact, defragment one member after the other, then `etcdctl alarm disarm`; docs/recover.md#no-space",
            ],
            Self::Corrupt => [
                "the data of a member is not that of the others",
                "clients of different members may read different things, and etcd refuses to go on with it",
                "keep a copy of the disks before anything else; the log of etcd on the leader names the member that differs",
            ],
        }
    }
}

/// What an operator reads: each alarm once, with who shows it and how large each database is.
pub(super) fn words(status: &ClusterStatus) -> Vec<String> {
    let told = Alarm::ALL.into_iter().filter_map(|alarm| {
        let etcds = status.instances.iter().filter_map(|one| Some((&one.instance, one.etcd.as_ref().ok()?)));
        let sizes: Vec<String> = etcds
            .clone()
            .map(|(instance, etcd)| format!("{instance} {} KiB", etcd.db_size_bytes / 1024))
            .collect();
        let raised: Vec<&str> = etcds
            .flat_map(|(_, etcd)| &etcd.errors)
            .filter(|error| error.contains(alarm.text()))
            .map(|error| error.trim())
            .collect();
        let first = raised.first()?;
        let [what, why, next] = alarm.words();
        let mut text = format!("error: {what} ({first}; {})", sizes.join(", "));
        write!(text, "\n  why:  {why}\n  next: {next}").expect("writing to a String cannot fail");
        Some(text)
    });
    told.collect()
}
