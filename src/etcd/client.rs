//! The one place that knows `etcd-client`: every call has a deadline, every refusal is one of our own
//! kinds, so that nobody else matches on strings.
//!
//! One connection, made by [`super::connect`] before the channel exists, so that its failure keeps its
//! kind. There is no reconnecting and no retrying inside: who wants to look again makes a new client.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Channel, ConnectOptions, GetOptions, LeaseGrantOptions, MemberAddOptions};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tonic::transport::Endpoint;

use super::connect::{ConnectError, Target, connect, connect_plain};
use super::id::{ClusterId, MemberId, PeerUrl};
use super::member::Member;

pub mod access;
pub mod keys;
mod maintenance;
pub mod snapshot;
pub mod watch;

/// While a stream is open, the other end is asked this often whether it is still there. etcd ends connections that ask
/// more often than `--grpc-keepalive-min-time`, by default 5 s.
const ALIVE_EVERY: Duration = Duration::from_secs(30);
/// And has so long to answer.
const ALIVE_WITHIN: Duration = Duration::from_secs(20);
/// What a stream may send ahead of who reads it: it lies in memory. The default is several MiB.
const WINDOW_BYTES: u32 = 1 << 20;

/// Why a call failed. Kinds an operator or a plan treats differently are different variants; etcd's
/// texts are matched here and nowhere else, because some refusals carry the wrong gRPC code
/// (docs/contract.md#errors).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The cluster has no leader, or lost it during the call.
    #[error("the cluster has no leader ({0})")]
    NoLeader(String),
    /// The call took too long.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Authentication or permission.
    #[error("etcd refused the certificate's user: {0}")]
    Auth(String),
    /// A learner answers only local questions.
    #[error("the member is still a learner")]
    Learner,
    /// This member is not the leader.
    #[error("the member is not the leader")]
    NotLeader,
    /// The member is not in the list (any more).
    #[error("the member is not in the member list")]
    MemberNotFound,
    /// The member that should become leader cannot.
    #[error("etcd does not accept that member as the next leader")]
    BadTransferee,
    /// A member with that peer URL is already listed.
    #[error("a member with that peer URL is already in the member list")]
    PeerUrlExists,
    /// The cluster refuses the change now, because it would endanger its quorum or because another
    /// change has to be finished first; later it may accept it. In etcd's words.
    #[error("the cluster refuses the change for now ({0})")]
    RefusedForNow(String),
    /// Only a learner can be promoted: it already votes.
    #[error("the member is no learner")]
    NoLearner,
    /// What is asked for is older than the last compaction, which was up to this revision (0 = etcd did not say).
    #[error("etcd has compacted everything up to revision {0}")]
    Compacted(i64),
    /// A lease with that id exists.
    #[error("a lease with that id exists")]
    LeaseExists,
    /// There is no such lease (any more).
    #[error("there is no such lease")]
    LeaseNotFound,
    /// The database has reached its quota: nothing is taken that could make it larger.
    #[error("the database of etcd is full")]
    NoSpace,
    /// A request or an answer is larger than one of the two sides takes. In their words.
    #[error("it is too large for one message ({0})")]
    TooLarge(String),
    /// Nobody can log in: authentication is off.
    #[error("authentication is not enabled")]
    AuthNotEnabled,
    /// Anything else, in etcd's words.
    #[error("etcd answered: {0}")]
    Other(String),
}

impl EtcdError {
    fn of(error: etcd_client::Error) -> Self {
        match error {
            etcd_client::Error::GRpcStatus(status) => Self::of_status(status.code(), status.message()),
            etcd_client::Error::TransportError(error) => {
                Self::Connect(ConnectError::Network(crate::report::chain(&anyhow::Error::new(error))))
            }
            other => Self::Other(other.to_string()),
        }
    }

    fn of_status(code: tonic::Code, message: &str) -> Self {
        let has = |part: &str| message.contains(part);
        if has("not supported for learner") {
            Self::Learner
        } else if has("no leader") || has("leader changed") || has("request timed out") {
            Self::NoLeader(message.to_owned())
        } else if has("not leader") {
            Self::NotLeader
        } else if has("bad leader transferee") {
            Self::BadTransferee
        } else if has("member not found") {
            Self::MemberNotFound
        } else if has("Peer URLs already exists") {
            Self::PeerUrlExists
        } else if has("can only promote a learner member which is in sync")
            || has("unhealthy cluster")
            || has("not enough started members")
            || has("too many learner members")
        {
            Self::RefusedForNow(message.to_owned())
        } else if has("can only promote a learner member") {
            Self::NoLearner
        } else if has("required revision has been compacted") {
            Self::Compacted(0)
        } else if has("database space exceeded") {
            Self::NoSpace
        } else if has("request is too large")
            || has("too many operations in txn")
            || has("message length too large")
            || has("message larger than max")
        {
            Self::TooLarge(message.to_owned())
        } else if has("authentication is not enabled") {
            Self::AuthNotEnabled
        } else if has("lease already exists") {
            Self::LeaseExists
        } else if has("requested lease not found") {
            Self::LeaseNotFound
        } else if matches!(code, tonic::Code::Unauthenticated | tonic::Code::PermissionDenied)
            || has("user name is empty")
            // As a watch is cancelled: in a text, with no code.
            || has("permission denied")
            || has("authentication failed")
            || has("auth store")
        {
            Self::Auth(message.to_owned())
        } else if has("transport error") || has("broken pipe") || has("connection") {
            Self::Connect(ConnectError::Network(message.to_owned()))
        } else {
            Self::Other(message.to_owned())
        }
    }
}

/// What one member says about itself; needs no quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Server version, `3.6.16`.
    pub version: String,
    /// The answering member.
    pub member_id: MemberId,
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// The leader as this member knows it.
    pub leader: Option<MemberId>,
    /// Raft term.
    pub raft_term: u64,
    /// Committed raft index.
    pub raft_index: u64,
    /// Applied raft index.
    pub raft_applied_index: u64,
    /// Size of the backend file in bytes.
    pub db_size_bytes: i64,
    /// Bytes of it in use.
    pub db_in_use_bytes: i64,
    /// Whether it is a learner.
    pub is_learner: bool,
    /// Alarms and complaints, in etcd's words.
    pub errors: Vec<String>,
}

/// A member list with the cluster that answered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The member that answered.
    pub answered_by: MemberId,
    /// All members, ordered by id.
    pub members: Vec<Member>,
}

/// What an add answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The new member.
    pub member_id: MemberId,
    /// All members, the new one included.
    pub members: Vec<Member>,
}

/// One connection to one member.
pub struct EtcdClient {
    inner: etcd_client::Client,
    channel: tonic::transport::Channel,
    limit: Duration,
}

impl EtcdClient {
    /// Connects within `limit`, which also bounds each later call.
    pub async fn connect(
        target: &Target,
        tls: Arc<ClientConfig>,
        limit: Duration,
    ) -> Result<Self, EtcdError> {
        let stream = connect(target, tls, limit).await?;
        Self::over(stream, target, limit).await
    }

    /// The same without TLS: clusters that are not of this release may have none.
    pub async fn connect_plain(target: &Target, limit: Duration) -> Result<Self, EtcdError> {
        let stream = connect_plain(target, limit).await?;
        Self::over(stream, target, limit).await
    }

    async fn over<S>(stream: S, target: &Target, limit: Duration) -> Result<Self, EtcdError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut once = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_| {
            // tonic asks again when the connection broke; that is told, not repaired.
            let stream = once.take();
            async move { stream.ok_or_else(|| std::io::Error::other("the connection was closed")) }
        });
        // The scheme is plain because the stream is already encrypted; the authority is what etcd logs.
        let endpoint = Endpoint::from_shared(format!("http://{}:{}", bracketed(&target.name), target.port))
            .map_err(|error| EtcdError::Other(error.to_string()))?
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_WITHIN);
        let channel = timeout(limit, endpoint.connect_with_connector(connector))
            .await
            .map_err(|_| EtcdError::Timeout(limit))?
            .map_err(|error| ConnectError::Network(crate::report::chain(&anyhow::Error::new(error))))?;
        let inner =
            etcd_client::Client::from_channel(Channel::Tonic(channel.clone()), None::<ConnectOptions>)
                .await
                .map_err(EtcdError::of)?;
        Ok(Self { inner, channel, limit })
    }

    /// Connects to the first of these members that answers a linearizable read: one that has a leader and
    /// is no learner. Otherwise the last failure, or [`EtcdError::Other`] if there was nobody to ask.
    pub async fn connect_to_one_of(
        targets: &[Target],
        tls: &Arc<ClientConfig>,
        limit: Duration,
    ) -> Result<Self, EtcdError> {
        let mut failure = EtcdError::Other("there is no member to ask".to_owned());
        for target in targets {
            match Self::connect(target, tls.clone(), limit).await {
                Ok(mut client) => match client.linearizable_read().await {
                    Ok(()) => return Ok(client),
                    Err(error) => failure = error,
                },
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The same connection, for what else the API has: a specification asks in ways that nothing here does.
    #[cfg(feature = "spec")]
    pub fn api(&self) -> etcd_client::Client {
        self.inner.clone()
    }

    async fn bounded<T>(
        limit: Duration,
        call: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, EtcdError> {
        timeout(limit, call).await.map_err(|_| EtcdError::Timeout(limit))?.map_err(EtcdError::of)
    }

    /// What the member says about itself. Local: needs no quorum.
    pub async fn status(&mut self) -> Result<Status, EtcdError> {
        let status = Self::bounded(self.limit, self.inner.status()).await?;
        let (cluster_id, member_id) =
            status.header().map_or((0, 0), |header| (header.cluster_id(), header.member_id()));
        Ok(Status {
            version: status.version().to_owned(),
            member_id: MemberId(member_id),
            cluster_id: ClusterId(cluster_id),
            leader: Some(status.leader()).filter(|leader| *leader != 0).map(MemberId),
            raft_term: status.raft_term(),
            raft_index: status.raft_index(),
            raft_applied_index: status.raft_applied_index(),
            db_size_bytes: status.db_size(),
            db_in_use_bytes: status.raft_used_db_size(),
            is_learner: status.is_learner(),
            errors: status.errors().to_vec(),
        })
    }

    /// Reads one key through consensus: succeeds only with a leader and quorum. A permission error is
    /// success, since etcd asks consensus before it asks for permission.
    pub async fn linearizable_read(&mut self) -> Result<(), EtcdError> {
        let options = GetOptions::new().with_keys_only().with_limit(1);
        match Self::bounded(self.limit, self.inner.get("\0", Some(options))).await {
            Ok(_) => Ok(()),
            Err(EtcdError::Auth(why)) if why.contains("permission denied") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The member list, fenced: a linearizable read on the same connection comes first, because a plain
    /// list is local and can be stale, and 3.4 does not know the field that asks for more
    /// (docs/contract.md#healthy).
    pub async fn linearizable_members(&mut self) -> Result<Membership, EtcdError> {
        self.linearizable_read().await?;
        self.local_members().await
    }

    /// The member list as this member knows it: may be stale.
    pub async fn local_members(&mut self) -> Result<Membership, EtcdError> {
        let list = Self::bounded(self.limit, self.inner.member_list()).await?;
        let (cluster_id, member_id) =
            list.header().map_or((0, 0), |header| (header.cluster_id(), header.member_id()));
        let mut members = list.members().iter().map(member).collect::<Result<Vec<_>, _>>()?;
        members.sort_by_key(|member| member.id);
        Ok(Membership { cluster_id: ClusterId(cluster_id), answered_by: MemberId(member_id), members })
    }

    /// The cluster's revision, through consensus. A permission error is one: nothing is known then.
    pub async fn revision(&mut self) -> Result<i64, EtcdError> {
        let options = GetOptions::new().with_keys_only().with_limit(1);
        let answer = Self::bounded(self.limit, self.inner.get("\0", Some(options))).await?;
        Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// For how many seconds a lease was granted; `None` = there is no such lease (any more).
    pub async fn lease_seconds(&mut self, id: i64) -> Result<Option<i64>, EtcdError> {
        match Self::bounded(self.limit, self.inner.lease_time_to_live(id, None)).await {
            // etcd answers a TTL of -1 for one that it does not know.
            Ok(answer) => Ok(Some(answer.granted_ttl()).filter(|seconds| *seconds > 0)),
            Err(EtcdError::LeaseNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a key; the answer means that a quorum has it. Returns the revision.
    pub async fn put(&mut self, key: &str, value: &str) -> Result<i64, EtcdError> {
        let answer = Self::bounded(self.limit, self.inner.put(key, value, None)).await?;
        Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// Reads a key through consensus.
    pub async fn get(&mut self, key: &str) -> Result<Option<String>, EtcdError> {
        let answer = Self::bounded(self.limit, self.inner.get(key, None)).await?;
        Ok(answer.kvs().first().map(|pair| String::from_utf8_lossy(pair.value()).into_owned()))
    }

    /// Adds a learner with this peer URL; answers its id and the members there are now, itself included.
    pub async fn add_learner(&mut self, url: &PeerUrl) -> Result<Added, EtcdError> {
        let options = MemberAddOptions::new().with_is_learner();
        let answer =
            Self::bounded(self.limit, self.inner.member_add([url.to_string()], Some(options))).await?;
        let added = answer.member().ok_or_else(|| EtcdError::Other("an add without a member".to_owned()))?;
        let members = answer.member_list().iter().map(member).collect::<Result<_, _>>()?;
        Ok(Added { member_id: MemberId(added.id()), members })
    }

    /// Removes a member for good; its id never comes back. One that is not there (any more) is
    /// [`EtcdError::MemberNotFound`].
    pub async fn remove_member(&mut self, id: MemberId) -> Result<(), EtcdError> {
        Self::bounded(self.limit, self.inner.member_remove(id.0)).await.map(|_| ())
    }

    /// Makes a learner a voter. One that has not caught up is [`EtcdError::RefusedForNow`], a voter is
    /// [`EtcdError::NoLearner`].
    pub async fn promote(&mut self, id: MemberId) -> Result<(), EtcdError> {
        Self::bounded(self.limit, self.inner.member_promote(id.0)).await.map(|_| ())
    }

    /// Tells the cluster where peers reach a member from now on. Never of a learner: older patches promote
    /// it by that (docs/contract.md#promote).
    pub async fn update_peer_url(&mut self, id: MemberId, url: &PeerUrl) -> Result<(), EtcdError> {
        Self::bounded(self.limit, self.inner.member_update(id.0, [url.to_string()])).await.map(|_| ())
    }

    /// Grants a lease with an id of our choice for so many seconds; a second one with that id is
    /// [`EtcdError::LeaseExists`].
    pub async fn grant_lease(&mut self, id: i64, seconds: i64) -> Result<(), EtcdError> {
        let options = LeaseGrantOptions::new().with_id(id);
        Self::bounded(self.limit, self.inner.lease_grant(seconds, Some(options))).await.map(|_| ())
    }

    /// Grants a lease for so many seconds, with an id that etcd chooses.
    pub async fn grant_new_lease(&mut self, seconds: i64) -> Result<i64, EtcdError> {
        Self::bounded(self.limit, self.inner.lease_grant(seconds, None)).await.map(|answer| answer.id())
    }

    /// Gives a lease its full time again; one that has run out is [`EtcdError::LeaseNotFound`].
    pub async fn renew_lease(&mut self, id: i64) -> Result<(), EtcdError> {
        let renewal = async {
            let (mut keeper, mut answers) = self.inner.lease_keep_alive(id).await?;
            keeper.keep_alive().await?;
            Ok(answers.message().await?.map_or(0, |answer| answer.ttl()))
        };
        match Self::bounded(self.limit, renewal).await? {
            seconds if seconds > 0 => Ok(()),
            _ => Err(EtcdError::LeaseNotFound),
        }
    }

    /// Ends a lease; one that has run out is [`EtcdError::LeaseNotFound`].
    pub async fn revoke_lease(&mut self, id: i64) -> Result<(), EtcdError> {
        Self::bounded(self.limit, self.inner.lease_revoke(id)).await.map(|_| ())
    }

    /// Hands leadership to `target`. Only the leader can: others answer [`EtcdError::NotLeader`].
    pub async fn move_leader(&mut self, target: MemberId) -> Result<(), EtcdError> {
        Self::bounded(self.limit, self.inner.move_leader(target.0)).await.map(|_| ())
    }
}

fn member(raw: &etcd_client::Member) -> Result<Member, EtcdError> {
    let malformed = |error: super::id::Malformed| EtcdError::Other(format!("member list: {error}"));
    Ok(Member {
        id: MemberId(raw.id()),
        name: Some(raw.name()).filter(|name| !name.is_empty()).map(str::to_owned),
        peer_urls: raw
            .peer_urls()
            .iter()
            .map(|url| url.parse())
            .collect::<Result<BTreeSet<_>, _>>()
            .map_err(malformed)?,
        client_urls: raw
            .client_urls()
            .iter()
            .map(|url| url.parse())
            .collect::<Result<BTreeSet<_>, _>>()
            .map_err(malformed)?,
        is_learner: raw.is_learner(),
    })
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_texts_become_our_kinds() {
        use tonic::Code;
        let of = |code, text: &str| EtcdError::of_status(code, text);
        assert_eq!(of(Code::Unavailable, "etcdserver: rpc not supported for learner"), EtcdError::Learner);
        assert_eq!(of(Code::FailedPrecondition, "etcdserver: not leader"), EtcdError::NotLeader);
        assert_eq!(
            of(Code::FailedPrecondition, "etcdserver: bad leader transferee"),
            EtcdError::BadTransferee
        );
        assert_eq!(of(Code::NotFound, "etcdserver: member not found"), EtcdError::MemberNotFound);
        assert_eq!(
            of(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            EtcdError::NoSpace
        );
        assert!(matches!(of(Code::Unavailable, "etcdserver: no leader"), EtcdError::NoLeader(_)));
        assert!(matches!(of(Code::Unavailable, "etcdserver: leader changed"), EtcdError::NoLeader(_)));
        assert!(matches!(
            of(Code::Unavailable, "etcdserver: request timed out, possibly due to connection lost"),
            EtcdError::NoLeader(_)
        ));
        assert!(matches!(of(Code::PermissionDenied, "etcdserver: permission denied"), EtcdError::Auth(_)));
        assert!(matches!(of(Code::InvalidArgument, "etcdserver: user name is empty"), EtcdError::Auth(_)));
        assert_eq!(
            of(Code::FailedPrecondition, "etcdserver: Peer URLs already exists"),
            EtcdError::PeerUrlExists
        );
        for (code, text) in [
            (Code::Unavailable, "etcdserver: unhealthy cluster"),
            // The wrong code, as etcd sends it.
            (Code::Unknown, "etcdserver: re-configuration failed due to not enough started members"),
            (Code::FailedPrecondition, "etcdserver: too many learner members in cluster"),
            (
                Code::FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
        ] {
            assert_eq!(of(code, text), EtcdError::RefusedForNow(text.to_owned()));
        }
        assert_eq!(
            of(Code::FailedPrecondition, "etcdserver: can only promote a learner member"),
            EtcdError::NoLearner
        );
        assert_eq!(of(Code::FailedPrecondition, "etcdserver: lease already exists"), EtcdError::LeaseExists);
        assert_eq!(of(Code::NotFound, "etcdserver: requested lease not found"), EtcdError::LeaseNotFound);
        for (code, text) in [
            (Code::InvalidArgument, "etcdserver: request is too large"),
            (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
            (Code::ResourceExhausted, "trying to send message larger than max (2097190 vs. 2097152)"),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
            ),
        ] {
            assert_eq!(of(code, text), EtcdError::TooLarge(text.to_owned()));
        }
        assert_eq!(
            of(Code::FailedPrecondition, "etcdserver: authentication is not enabled"),
            EtcdError::AuthNotEnabled
        );
        let login = "etcdserver: authentication failed, invalid user ID or password";
        assert!(matches!(of(Code::InvalidArgument, login), EtcdError::Auth(_)));
        assert!(matches!(of(Code::Unknown, "etcdserver: something new"), EtcdError::Other(_)));
    }
}
