//! What the files of a member say that has never run: who is in the cluster, agreed on at the first indexes.

use std::collections::BTreeMap;
use std::fs::File;

use super::{Place, SeedError, doing};
use crate::datadir::bolt::edit::Edit;
use crate::datadir::bolt::write::{Filling, WriteError};
use crate::datadir::bolt::{Db, Entry};
use crate::datadir::membership::Membership;
use crate::datadir::raft::Owner;
use crate::datadir::stored_member::StoredMember;
use crate::datadir::v2store::V2Store;
use crate::datadir::{snap, wal};

/// etcd keeps six facts in this bucket; a file with more than this is none of etcd's.
const META_MAX: usize = 1000;

/// A member that has never run, and its cluster.
#[derive(Debug, Clone)]
pub(in crate::datadir) struct Birth {
    owner: Owner,
    /// By ascending id.
    members: Vec<StoredMember>,
}

/// What is changed in a database besides the membership. Keys are names in bucket `meta` and `cluster`; `None` removes.
#[derive(Debug, Clone, Default)]
pub(in crate::datadir) struct Changes {
    pub(in crate::datadir) meta: BTreeMap<&'static str, Option<Vec<u8>>>,
    pub(in crate::datadir) cluster: BTreeMap<&'static str, Option<Vec<u8>>>,
    /// A last record of bucket `key`.
    pub(in crate::datadir) last_key: Option<Vec<u8>>,
}

impl Birth {
    /// The members of a new cluster.
    pub(in crate::datadir) fn of(membership: &Membership) -> Self {
        let members = membership.members().iter().map(|founder| StoredMember {
            id: founder.id.0,
            peer_urls: founder.peer_urls.iter().map(ToString::to_string).collect(),
            name: founder.name.to_string(),
            ..StoredMember::default()
        });
        let owner = Owner { member_id: membership.own().id, cluster_id: membership.cluster_id() };
        Self { owner, members: members.collect() }
    }

    /// Writes the members into a database, which then stands at their last index; they replace all that were there.
    pub(in crate::datadir) fn write_db(&self, file: File, changes: Changes) -> Result<(), SeedError> {
        let db = Db::over(&file).map_err(WriteError::from)?;
        let mut meta = entries(&db, "meta")?;
        let mut cluster = entries(&db, "cluster")?;
        meta.extend(self.meta());
        apply(&mut meta, changes.meta);
        apply(&mut cluster, changes.cluster);
        let mut edit = Edit::begin(file)?;
        edit.replace("cluster".as_bytes(), |filling| fill(filling, &cluster))?;
        if let Some(key) = &changes.last_key {
            edit.append::<WriteError>("key".as_bytes(), |filling| filling.put(key, b""))?;
        }
        let members: BTreeMap<Vec<u8>, Vec<u8>> = self
            .members
            .iter()
            .map(|member| (member.member_id().to_string().into_bytes(), member.to_json().into_bytes()))
            .collect();
        edit.replace("members".as_bytes(), |filling| fill(filling, &members))?;
        edit.replace::<WriteError>("members_removed".as_bytes(), |_| Ok(()))?;
        edit.replace("meta".as_bytes(), |filling| fill(filling, &meta))?;
        edit.commit()?;
        Ok(())
    }

    /// Writes the first snapshot and the log.
    pub(in crate::datadir) fn write_log(&self, place: &Place) -> Result<(), SeedError> {
        let (snapshots, log) = (place.snap(), place.log());
        let store = V2Store::founding(&self.members);
        let snapshot = snap::Snapshot { mark: wal::write::first_snapshot(&self.members), store: &store };
        snap::write(&snapshots, &snapshot).map_err(doing("write a snapshot file in", &snapshots))?;
        let records = wal::write::first_records(self.owner, &self.members);
        wal::write::first_file(&log, &records).map_err(doing("write the log in", &log))
    }

    /// Up to which entry of the log the database has everything, and who votes then. etcdutl leaves the voters of the
    /// old cluster here; etcd 3.5 and 3.6 write them anew, and nothing is better than something wrong until then.
    fn meta(&self) -> [(Vec<u8>, Vec<u8>); 3] {
        let snapshot = wal::write::first_snapshot(&self.members);
        let voters: Vec<String> = self.members.iter().map(|member| member.id.to_string()).collect();
        let conf_state = format!("{{\"voters\":[{}],\"auto_leave\":false}}", voters.join(","));
        [
            (b"confState".to_vec(), conf_state.into_bytes()),
            (b"consistent_index".to_vec(), snapshot.id.index.to_be_bytes().to_vec()),
            (b"term".to_vec(), snapshot.id.term.to_be_bytes().to_vec()),
        ]
    }
}

fn entries(db: &Db<&File>, bucket: &'static str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, WriteError> {
    let Some(found) = db.bucket(bucket.as_bytes())? else { return Ok(BTreeMap::new()) };
    let entries: Vec<Entry> = found.entries(META_MAX)?;
    Ok(entries.into_iter().collect())
}

fn apply(entries: &mut BTreeMap<Vec<u8>, Vec<u8>>, changes: BTreeMap<&'static str, Option<Vec<u8>>>) {
    for (name, value) in changes {
        match value {
            Some(value) => _ = entries.insert(name.as_bytes().to_vec(), value),
            None => _ = entries.remove(name.as_bytes()),
        }
    }
}

fn fill(filling: &mut Filling<'_>, entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), WriteError> {
    entries.iter().try_for_each(|(key, value)| filling.put(key, value))
}
