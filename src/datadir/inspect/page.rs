//! An inspection on one page, for people.

use std::fmt::{self, Display, Write};

use super::backend::{BackendFacts, Header};
use super::changes::ChangeRow;
use super::log::{LogFacts, Repair, TailFacts};
use super::start::Start;
use super::{Class, Inspection, MemberRow};

/// How many members, leases, users and records are on the page; JSON has more.
const SHOWN: usize = 20;

/// The page, without a newline at its end. What a start would do comes last.
pub fn page(inspection: &Inspection) -> String {
    let mut text = String::new();
    // Writing into a text cannot fail.
    let _ = write_page(&mut text, inspection);
    text.truncate(text.trim_end().len());
    text
}

fn write_page(out: &mut String, inspection: &Inspection) -> fmt::Result {
    line(out, "directory", inspection.data_dir.display())?;
    line(out, "class", class(&inspection.class))?;
    if let (Some(member), Some(cluster)) = (inspection.member_id, inspection.cluster_id) {
        line(out, "member", format_args!("{member} of cluster {cluster}"))?;
    }
    if let Some(backend) = &inspection.backend {
        members(out, "members", &backend.members)?;
    }
    if let Some(store) = &inspection.v2_store {
        let rows = inspection.backend.as_ref().map(|backend| &backend.members);
        let told =
            inspection.differences.is_empty() && rows.is_some_and(|rows| rows.len() == store.members.len());
        if told {
            line(out, "old store", format_args!("the same members, last changed by entry {}", store.index))?;
        } else {
            members(out, "old store", &store.members)?;
        }
        if store.has_user_data {
            line(out, "", "users have written with the old API: etcd 3.6 and later refuse to start")?;
        }
    }
    for difference in &inspection.differences {
        line(out, "differs", format_args!("member {} {}", difference.member, difference.what))?;
        line(out, "", &difference.matters)?;
    }
    removed(out, inspection)?;
    if let Some(backend) = &inspection.backend {
        versions(out, inspection, backend)?;
    }
    if let Some(log) = &inspection.log {
        raft(out, log)?;
    }
    if let Some(backend) = &inspection.backend {
        data(out, backend)?;
        access(out, backend)?;
    }
    if !inspection.records.is_empty() {
        line(out, "launcher", list(&inspection.records))?;
    }
    if let Some(changes) = &inspection.conf_changes {
        conf_changes(out, changes, inspection.conf_changes_omitted.unwrap_or_default())?;
    }
    for part in &inspection.unreadable {
        line(out, "unreadable", format_args!("{}: {}", part.file, part.why))?;
    }
    start(out, &inspection.start)
}

fn line(out: &mut String, name: &str, what: impl Display) -> fmt::Result {
    writeln!(out, "{name:<12}{what}")
}

fn class(class: &Class) -> String {
    match class {
        Class::Empty => "empty".to_owned(),
        Class::Partial { what } => format!("partial: {what}"),
        Class::Foreign { names } => format!("foreign: {}", list(names)),
        Class::Damaged { why } => format!("damaged: {why}"),
        Class::Data => "data of a member".to_owned(),
    }
}

fn members(out: &mut String, name: &str, rows: &[MemberRow]) -> fmt::Result {
    if rows.is_empty() {
        return line(out, name, "none");
    }
    for (place, row) in rows.iter().take(SHOWN).enumerate() {
        let own_name = if row.name.is_empty() { "(no name yet)" } else { row.name.as_str() };
        let learner = if row.learner { ", learner" } else { "" };
        let clients = if row.client_urls.is_empty() {
            "no client URLs yet".to_owned()
        } else {
            format!("clients {}", row.client_urls.join(" "))
        };
        let head = if place == 0 { name } else { "" };
        line(
            out,
            head,
            format_args!("{} {own_name}, peers {}, {clients}{learner}", row.id, row.peer_urls.join(" ")),
        )?;
    }
    more(out, rows.len())
}

fn removed(out: &mut String, inspection: &Inspection) -> fmt::Result {
    let mut ids: Vec<_> = inspection.backend.iter().flat_map(|backend| &backend.removed).collect();
    ids.extend(inspection.v2_store.iter().flat_map(|store| &store.removed));
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() { Ok(()) } else { line(out, "removed", list(&ids)) }
}

fn versions(out: &mut String, inspection: &Inspection, backend: &BackendFacts) -> fmt::Result {
    let old = inspection.v2_store.as_ref().and_then(|store| store.cluster_version.as_deref());
    let cluster = backend.cluster_version.as_deref().or(old).unwrap_or("not agreed on yet");
    let storage = backend.storage_version.as_deref().unwrap_or("none (before 3.6)");
    line(out, "versions", format_args!("cluster {cluster}, storage {storage}"))?;
    match &backend.downgrade_to {
        Some(target) => line(out, "", format_args!("a downgrade to {target} is allowed")),
        None => Ok(()),
    }
}

fn raft(out: &mut String, log: &LogFacts) -> fmt::Result {
    let number = |index: Option<u64>| index.map_or("none".to_owned(), |index| index.to_string());
    line(
        out,
        "log",
        format_args!(
            "entries {} to {} in {} of {} bytes, term {}, agreed on up to {}",
            number(log.first_index),
            number(log.last_index),
            counted(log.segments.len() as u64, "file"),
            log.bytes,
            log.term,
            log.commit
        ),
    )?;
    match &log.tail {
        TailFacts::Clean { remains: None, .. } => {}
        TailFacts::Clean { file, offset, remains: Some(remains) } => {
            line(
                out,
                "",
                format_args!("{file} ends at byte {offset}; what stands from byte {remains} on is lost"),
            )?;
        }
        TailFacts::Torn { file, offset, why, .. } => {
            line(out, "", format_args!("{file} is torn at byte {offset}: {why}"))?;
        }
        TailFacts::Broken { file, offset, why } => {
            line(out, "", format_args!("{file} is broken at byte {offset}: {why}"))?;
        }
    }
    if let Some((last, found)) = log.gap {
        line(out, "", format_args!("the entries between {last} and {found} are missing"))?;
    }
    match (&log.snapshot_file, log.snapshot_index) {
        (Some(file), _) => {
            line(out, "snapshot", format_args!("index {}, {file}", number(log.snapshot_file_index)))
        }
        (None, Some(1..)) => {
            line(out, "snapshot", format_args!("index {}, without a file", number(log.snapshot_index)))
        }
        (None, _) => line(out, "snapshot", "none: a start reads the log from its first entry"),
    }
}

fn data(out: &mut String, backend: &BackendFacts) -> fmt::Result {
    let term = backend.term.map_or(String::new(), |term| format!(" of term {term}"));
    line(out, "database", format_args!("up to entry {}{term}", backend.consistent_index))?;
    let compaction = backend.compaction;
    let compacted = if compaction.scheduled == compaction.finished {
        match compaction.finished {
            0 => "never compacted".to_owned(),
            revision => format!("compacted at {revision}"),
        }
    } else {
        format!("compacted at {}, at {} as soon as it starts", compaction.finished, compaction.scheduled)
    };
    line(out, "revision", format_args!("{}, {compacted}", backend.revision))?;
    let keys = backend.keys;
    let live =
        keys.live.map_or("unknown until the compaction is finished".to_owned(), |live| live.to_string());
    line(
        out,
        "keys",
        format_args!(
            "{live}; {}, {} of removals, {} bytes",
            counted(keys.records, "record"),
            keys.tombstones,
            keys.bytes
        ),
    )?;
    let file = backend.file;
    line(
        out,
        "file",
        format_args!(
            "{} bytes in pages of {}: {} in use, {} free, {} never used",
            file.bytes, file.page_size, file.live_pages, file.free_pages, file.tail_pages
        ),
    )?;
    if file.other_header == Header::Torn {
        line(out, "", "the other header is torn, as a crash leaves it; the next transaction mends it")?;
    }
    match file.faults {
        0 => Ok(()),
        faults => line(
            out,
            "",
            format_args!("{} in pages in use: run `etcd-datadir validate`", counted(faults, "fault")),
        ),
    }
}

fn access(out: &mut String, backend: &BackendFacts) -> fmt::Result {
    let leases: Vec<_> =
        backend.leases.iter().take(SHOWN).map(|lease| format!("{} ({} s)", lease.id, lease.ttl)).collect();
    match leases.as_slice() {
        [] => line(out, "leases", "none")?,
        leases => line(out, "leases", format_args!("{}: {}", backend.leases_count, leases.join(", ")))?,
    }
    let auth = &backend.auth;
    let users: Vec<_> = auth
        .users
        .iter()
        .take(SHOWN)
        .map(|user| format!("{} ({})", user.name, user.roles.join(", ")))
        .collect();
    let state = if auth.enabled { "on" } else { "off" };
    match users.as_slice() {
        [] => line(out, "auth", state)?,
        users => line(
            out,
            "auth",
            format_args!("{state}, users {}, roles {}", users.join(", "), list(&auth.roles)),
        )?,
    }
    let alarms: Vec<_> =
        backend.alarms.iter().map(|alarm| format!("{} by {}", alarm.alarm, alarm.member)).collect();
    if alarms.is_empty() { Ok(()) } else { line(out, "alarms", list(&alarms)) }
}

fn conf_changes(out: &mut String, changes: &[ChangeRow], omitted: u64) -> fmt::Result {
    if omitted > 0 {
        line(out, "changes", format_args!("{omitted} older ones are not listed"))?;
    }
    if changes.is_empty() {
        return line(out, "changes", "none in the log");
    }
    for change in changes {
        let urls = if change.peer_urls.is_empty() {
            String::new()
        } else {
            format!(" {}", change.peer_urls.join(" "))
        };
        let agreed = if change.committed { "" } else { ", not agreed on" };
        line(
            out,
            "change",
            format_args!(
                "{} (term {}) {} {}{urls}{agreed}",
                change.index, change.term, change.kind, change.member
            ),
        )?;
    }
    Ok(())
}

fn start(out: &mut String, start: &Start) -> fmt::Result {
    let say = |out: &mut String, what: &str| line(out, "a start", what);
    match start {
        Start::Empty => say(out, "begins as a new member"),
        Start::OnRemains => say(out, "begins as a new member, on what an earlier start has left"),
        Start::Foreign => say(out, "nobody can say: the directory is not etcd's alone"),
        Start::Removed { member } => say(out, &format!("ends: the cluster has removed member {member}")),
        Start::Ends { because } => say(out, &format!("ends each time: {because}")),
        Start::NewClusterOnOldData { consistent_index } => say(
            out,
            &format!(
                "that founds a cluster does so on top of old data: writes time out until entry {consistent_index}"
            ),
        ),
        Start::PassesOverWrites { last_index, consistent_index } => say(
            out,
            &format!(
                "serves, and lets writes time out: the log ends at {last_index}, the database has passed {consistent_index}"
            ),
        ),
        Start::Member { member, cluster, voters, quorum, learner, replayed, repair } => {
            match repair {
                Some(Repair::Harmless) => {
                    say(out, "repairs the torn end of the log; nothing acknowledged is lost")?;
                }
                Some(Repair::Loses { offset }) => {
                    say(
                        out,
                        &format!("cuts the log before whole records, which stand from byte {offset} on"),
                    )?;
                }
                None => {}
            }
            let role = if *learner { "learner" } else { "member" };
            say(
                out,
                &format!(
                    "goes on as {role} {member} of cluster {cluster}: {quorum} of {} must run, {} to apply",
                    counted(*voters as u64, "voter"),
                    counted(*replayed, "entry")
                ),
            )
        }
    }
}

fn counted(count: u64, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}

fn more(out: &mut String, count: usize) -> fmt::Result {
    if count > SHOWN { line(out, "", format_args!("and {} more", count - SHOWN)) } else { Ok(()) }
}

fn list(items: &[impl ToString]) -> String {
    let shown: Vec<_> = items.iter().take(SHOWN).map(ToString::to_string).collect();
    let rest = items.len().saturating_sub(SHOWN);
    if rest > 0 { format!("{} and {rest} more", shown.join(", ")) } else { shown.join(", ") }
}
