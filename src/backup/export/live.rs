//! Reads a running cluster for an export: every key at one revision, whatever is written meanwhile.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::Timestamp;

use super::Exported;
use super::record::{Auth, Blob, FORMAT, Head, Key, Lease, Record, Role, User, VERSION};
use super::writing::Writing;
use crate::backup::cluster::{Answering, Cluster, NoMember};
use crate::backup::full::written_by;
use crate::etcd::client::keys::{Pages, Span};
use crate::etcd::client::{EtcdClient, EtcdError};
use crate::etcd::id::LeaseId;
use crate::fail_point;
use crate::report::Complaint;

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Nobody to ask.
    #[error(transparent)]
    NoMember(#[from] NoMember),
    /// The past was removed while it was read.
    #[error("the cluster was compacted while its keys were read: revision {revision} is gone")]
    Compacted {
        /// Which was being read.
        revision: i64,
    },
    /// A member answered something else.
    #[error("member {member}: {error}")]
    Etcd {
        /// Where it is.
        member: String,
        /// What it said.
        error: EtcdError,
    },
    /// It cannot be written.
    #[error("the export cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl ExportError {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let (what, nothing) = (self.to_string(), "half an export is none: nothing was kept of it");
        match self {
            Self::NoMember(error) => error.complaint(),
            Self::Compacted { .. } => Complaint::try_again(
                what,
                nothing,
                "run it again: it takes the newest revision; if that happens each time, compact less often while it runs (property auto_compaction_retention)",
            ),
            Self::Etcd { error: EtcdError::Auth(_), .. } => Complaint::refused(
                what,
                nothing,
                "use a certificate of etcd's user root, or name the keys that this user may read: --prefix",
            ),
            Self::Etcd { .. } => {
                Complaint::try_again(what, nothing, "look at `etcd-status`, and run it again")
            }
            Self::Write(_) => {
                Complaint::failed(what, nothing, "mend what the system complains about and run it again")
            }
        }
    }
}

/// Exports the keys that begin with `prefix`; users and roles only with all keys, because they are the whole cluster's.
/// `told` hears how many keys are done, of how many.
pub async fn export<W: Write>(
    cluster: &Cluster,
    prefix: &[u8],
    out: W,
    told: &mut dyn FnMut(u64, u64),
) -> Result<(W, Exported), ExportError> {
    let (Answering { target, mut client, status }, membership) = cluster.source().await?;
    let failed = |error| ExportError::Etcd { member: format!("{}:{}", target.name, target.port), error };
    let span = Span::prefix(prefix);
    let revision = client.revision_of(&span).await.map_err(failed)?;
    let head = Head {
        format: FORMAT.to_owned(),
        version: VERSION,
        cluster_id: membership.cluster_id,
        revision,
        etcd: status.version,
        prefix: Blob(prefix.to_vec()),
        begun: Timestamp::now(),
        written_by: written_by(),
    };
    let mut writing = Writing::begin(out, &head)?;
    let mut pages = Pages::at(span, revision);
    let mut leases: BTreeMap<LeaseId, Lease> = BTreeMap::new();
    let (mut done, mut of) = (0, 0);
    loop {
        let page = pages.next(&mut client).await.map_err(|error| match error {
            EtcdError::Compacted(_) => ExportError::Compacted { revision },
            error => failed(error),
        })?;
        let Some(page) = page else { break };
        of = of.max(page.remaining);
        done += page.pairs.len() as u64;
        for pair in page.pairs {
            let lease = Some(LeaseId(pair.lease.cast_unsigned())).filter(|id| id.0 != 0);
            if let Some(id) = lease {
                // At once: one that is about to end can still be asked for.
                hangs_on(&mut client, id, &mut leases).await.map_err(failed)?;
            }
            writing.put(&Record::Key(Key { key: Blob(pair.key), value: Blob(pair.value), lease }))?;
        }
        told(done, of);
        fail_point::reach("export:page-written");
    }
    for lease in leases.into_values() {
        writing.put(&Record::Lease(lease))?;
    }
    let (mut no_access, mut auth) = (None, None);
    if prefix.is_empty() {
        match access(&mut client).await {
            Ok((records, enabled)) => {
                auth = Some(enabled);
                records.iter().try_for_each(|record| writing.put(record))?;
            }
            Err(EtcdError::Auth(why)) => no_access = Some(why),
            Err(error) => return Err(failed(error)),
        }
    } else {
        no_access = Some(super::ONLY_SOME.to_owned());
    }
    let (out, counts, bytes) = writing.end()?;
    Ok((out, Exported { cluster: head.cluster_id, revision, counts, bytes, no_access, auth }))
}

/// Counts a key on its lease.
async fn hangs_on(
    client: &mut EtcdClient,
    id: LeaseId,
    leases: &mut BTreeMap<LeaseId, Lease>,
) -> Result<(), EtcdError> {
    if let Some(lease) = leases.get_mut(&id) {
        lease.keys += 1;
        return Ok(());
    }
    let seconds = client.lease_seconds(id.0.cast_signed()).await?;
    leases.insert(id, Lease { id, seconds, keys: 1 });
    Ok(())
}

/// Roles, users, and whether authentication is on.
async fn access(client: &mut EtcdClient) -> Result<(Vec<Record>, bool), EtcdError> {
    let mut records = Vec::new();
    for name in client.roles().await? {
        let permissions = client.role(&name).await?.into_iter().map(Into::into).collect();
        records.push(Record::Role(Role { name, permissions }));
    }
    for name in client.users().await? {
        let roles = client.user(&name).await?;
        records.push(Record::User(User { name, roles }));
    }
    let enabled = client.authentication().await?;
    records.push(Record::Auth(Auth { enabled }));
    Ok((records, enabled))
}
