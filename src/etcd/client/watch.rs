//! Every change of every key from a revision on, one whole revision at a time.
//!
//! Why not etcd-client's own watch: it does not tell whether an answer is a fragment, so nobody would know where a
//! revision ends. Without fragments one answer carries up to a thousand revisions, whatever their size. etcd's messages
//! are therefore written down here, as far as they are needed.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use tonic::{IntoStreamingRequest, Streaming};

use super::{EtcdClient, EtcdError};
use crate::etcd::id::ClusterId;

/// A fragment is cut behind `--max-request-bytes` and half a MiB, between two events: it has at most one request's
/// worth more. Operators raise that limit, by default 1.5 MiB.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// What a watch brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// All changes of one revision.
    Revision(Revision),
    /// Everything up to this revision was brought, and nothing else is under way.
    Progress(i64),
}

/// One revision with all of its changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The revision.
    pub revision: i64,
    /// In etcd's order.
    pub changes: Vec<KeyChange>,
}

/// A key that was written or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// Whether it was deleted; then only the key counts.
    pub deleted: bool,
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision in which the key was created.
    pub create_revision: i64,
    /// How often it was written since then.
    pub version: i64,
    /// The lease it hangs on; 0 = none.
    pub lease: i64,
}

/// A watch that goes on. What is not asked for stays at etcd, but for what HTTP/2's windows hold.
pub struct WatchStream {
    answers: Streaming<WatchResponse>,
    /// etcd ends the watch when the side of the requests is closed.
    _requests: mpsc::Sender<WatchRequest>,
    joiner: Joiner,
    ready: VecDeque<Seen>,
}

impl EtcdClient {
    /// Watches all keys from a revision on, which must not be compacted: [`EtcdError::Compacted`] from the first
    /// [`WatchStream::next`] otherwise. Needs permission for all keys.
    pub async fn watch_all(&mut self, from: i64) -> Result<WatchStream, EtcdError> {
        let (requests, sent) = mpsc::channel(1);
        let create = WatchCreateRequest {
            // From the smallest key to the end of all.
            key: vec![0],
            range_end: vec![0],
            start_revision: from,
            progress_notify: true,
            fragment: true,
        };
        let first = WatchRequest { create: Some(create) };
        // It has room for one, and this is the first.
        let _ = requests.try_send(first);
        let sent = futures_util::stream::unfold(sent, |mut sent| async move {
            sent.recv().await.map(|request| (request, sent))
        });
        let mut request = sent.into_streaming_request();
        // Without it a member that is cut off from its leader stays silent for ever.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let mut grpc =
            tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let opened = async {
            grpc.ready()
                .await
                .map_err(|error| tonic::Status::unknown(format!("transport error: {error}")))?;
            let path = hyper::http::uri::PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
            grpc.streaming(request, path, tonic_prost::ProstCodec::<WatchRequest, WatchResponse>::default())
                .await
        };
        let answers = tokio::time::timeout(self.limit, opened)
            .await
            .map_err(|_| EtcdError::Timeout(self.limit))?
            .map_err(|status| EtcdError::of_status(status.code(), status.message()))?
            .into_inner();
        Ok(WatchStream { answers, _requests: requests, joiner: Joiner::default(), ready: VecDeque::new() })
    }
}

impl WatchStream {
    /// The cluster that answers; known after the first answer.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.joiner.cluster.map(ClusterId)
    }

    /// The next one, whenever it comes. May be given up and called again: nothing is lost.
    pub async fn next(&mut self) -> Result<Seen, EtcdError> {
        loop {
            if let Some(seen) = self.ready.pop_front() {
                return Ok(seen);
            }
            match self.answers.message().await {
                Ok(Some(answer)) => self.joiner.take(answer, &mut self.ready)?,
                Ok(None) => return Err(EtcdError::Other("the watch ended".to_owned())),
                Err(status) => return Err(EtcdError::of_status(status.code(), status.message())),
            }
        }
    }
}

/// Makes whole revisions of answers.
#[derive(Debug, Default)]
struct Joiner {
    cluster: Option<u64>,
    /// The revision whose changes may not all be here.
    open: Option<Revision>,
}

impl Joiner {
    fn take(&mut self, answer: WatchResponse, ready: &mut VecDeque<Seen>) -> Result<(), EtcdError> {
        let header = answer.header.unwrap_or_default();
        if self.cluster.get_or_insert(header.cluster_id) != &header.cluster_id {
            return Err(EtcdError::Other(format!("another cluster answers: {:x}", header.cluster_id)));
        }
        if answer.compact_revision > 0 {
            return Err(EtcdError::Compacted(answer.compact_revision));
        }
        if answer.canceled {
            return Err(EtcdError::of_status(tonic::Code::Unknown, &answer.cancel_reason));
        }
        if answer.created {
            return Ok(());
        }
        let progress = answer.events.is_empty();
        for event in answer.events {
            let pair = event.kv.unwrap_or_default();
            let revision = pair.mod_revision;
            let change = KeyChange {
                deleted: event.kind == DELETE,
                key: pair.key,
                value: pair.value,
                create_revision: pair.create_revision,
                version: pair.version,
                lease: pair.lease,
            };
            match &mut self.open {
                Some(open) if open.revision == revision => open.changes.push(change),
                open => {
                    let before = open.replace(Revision { revision, changes: vec![change] });
                    ready.extend(before.map(Seen::Revision));
                }
            }
        }
        if !answer.fragment {
            ready.extend(self.open.take().map(Seen::Revision));
            if progress {
                ready.push_back(Seen::Progress(header.revision));
            }
        }
        Ok(())
    }
}

/// `Event.type`.
const DELETE: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    create: Option<WatchCreateRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct WatchCreateRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    start_revision: i64,
    #[prost(bool, tag = "4")]
    progress_notify: bool,
    #[prost(bool, tag = "8")]
    fragment: bool,
}

#[derive(Clone, PartialEq, Message)]
struct WatchResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(bool, tag = "4")]
    canceled: bool,
    #[prost(int64, tag = "5")]
    compact_revision: i64,
    #[prost(string, tag = "6")]
    cancel_reason: String,
    #[prost(bool, tag = "7")]
    fragment: bool,
    #[prost(message, repeated, tag = "11")]
    events: Vec<Event>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    cluster_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(message, optional, tag = "2")]
    kv: Option<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(int64, tag = "2")]
    create_revision: i64,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
    #[prost(int64, tag = "6")]
    lease: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(fragment: bool, revisions: &[i64]) -> WatchResponse {
        let event = |&mod_revision| Event { kind: 0, kv: Some(Pair { mod_revision, ..Pair::default() }) };
        WatchResponse {
            header: Some(ResponseHeader { cluster_id: 7, revision: 20 }),
            fragment,
            events: revisions.iter().map(event).collect(),
            ..WatchResponse::default()
        }
    }

    fn joined(answers: Vec<WatchResponse>) -> Vec<(i64, usize)> {
        let (mut joiner, mut ready) = (Joiner::default(), VecDeque::new());
        for answer in answers {
            joiner.take(answer, &mut ready).unwrap();
        }
        let told = ready.into_iter().map(|seen| match seen {
            Seen::Revision(revision) => (revision.revision, revision.changes.len()),
            Seen::Progress(revision) => (revision, 0),
        });
        told.collect()
    }

    #[test]
    fn a_revision_that_came_in_fragments_is_one() {
        assert_eq!(
            joined(vec![
                answer(true, &[2, 3, 3]),
                answer(true, &[3]),
                answer(false, &[3, 4]),
                answer(false, &[5])
            ]),
            [(2, 1), (3, 4), (4, 1), (5, 1)]
        );
        // The last fragment has not come: revision 3 is not told.
        assert_eq!(joined(vec![answer(true, &[2, 3, 3])]), [(2, 1)]);
    }

    #[test]
    fn an_answer_without_changes_tells_how_far_the_watch_is() {
        assert_eq!(joined(vec![answer(false, &[2]), answer(false, &[])]), [(2, 1), (20, 0)]);
    }

    #[test]
    fn what_cannot_go_on_is_an_error_of_its_kind() {
        let take = |answer| Joiner { cluster: Some(7), open: None }.take(answer, &mut VecDeque::new());

        let compacted = WatchResponse { canceled: true, compact_revision: 12, ..answer(false, &[]) };
        assert_eq!(take(compacted), Err(EtcdError::Compacted(12)));
        let denied = WatchResponse {
            canceled: true,
            cancel_reason: "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
                .to_owned(),
            ..answer(false, &[])
        };
        assert!(matches!(take(denied), Err(EtcdError::Auth(_))));
        let other = WatchResponse {
            header: Some(ResponseHeader { cluster_id: 8, revision: 1 }),
            ..answer(false, &[2])
        };
        assert!(matches!(take(other), Err(EtcdError::Other(why)) if why.contains("another cluster")));
    }
}
