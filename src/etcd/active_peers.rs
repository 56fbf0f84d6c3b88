//! Which members a running etcd is connected to, as its own metric tells. The only sign of life of a member
//! that does not need that member's word (docs/contract.md#healthy).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde::Serialize;

use super::connect::{ConnectError, Target};
use super::http::{self, Answer};
use super::id::MemberId;

/// The gauge: one line for each member it was ever connected to since its start.
const GAUGE: &str = "etcd_network_active_peers{";
/// The counter of bytes that a peer sent: a live follower answers each heartbeat of its leader.
const RECEIVED: &str = "etcd_network_peer_received_bytes_total{";
/// Begins a line that every etcd writes, whatever it is connected to.
const ETCDS_OWN: &str = "etcd_server_has_leader ";

/// Whether a member's connection to a peer is up. It drops within about two seconds of that peer's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connected {
    /// None.
    Down,
    /// At least one active connection.
    Up,
}

/// Why the connections of a member are unknown. Unknown is never "not connected".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActivePeersError {
    /// It did not answer.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// What it answered is no page of etcd's metrics.
    #[error("/metrics: {0}")]
    Page(String),
}

/// The peers of the etcd at `target`, which is its client port; `tls` speaks HTTP/1 and shows a client
/// certificate that port takes. A peer that is missing was not connected since that etcd started.
pub async fn active_peers(
    target: &Target,
    tls: Arc<ClientConfig>,
    limit: Duration,
) -> Result<BTreeMap<MemberId, Connected>, ActivePeersError> {
    page(&http::get(target, "/metrics", tls, limit).await?).map_err(ActivePeersError::Page)
}

/// The same of a leader, and certain: who is connected by the gauge must also have sent something within
/// `apart`, which is to be several heartbeats. A member that joined counts the leader it caught up from
/// once more than it ever takes back, and calls it connected for ever (docs/contract.md#healthy).
pub async fn heard_peers(
    leader: &Target,
    tls: Arc<ClientConfig>,
    limit: Duration,
    apart: Duration,
) -> Result<BTreeMap<MemberId, Connected>, ActivePeersError> {
    let first = http::get(leader, "/metrics", tls.clone(), limit).await?;
    tokio::time::sleep(apart).await;
    let second = http::get(leader, "/metrics", tls, limit).await?;
    heard(&first, &second).map_err(ActivePeersError::Page)
}

fn heard(first: &Answer, second: &Answer) -> Result<BTreeMap<MemberId, Connected>, String> {
    let (before, after) = (received(first)?, received(second)?);
    let peers = page(second)?.into_iter().map(|(id, connected)| {
        let silent = after.get(&id) == before.get(&id);
        (id, if silent { Connected::Down } else { connected })
    });
    Ok(peers.collect())
}

/// What each peer has sent so far, as text: only a change means something.
fn received(answer: &Answer) -> Result<BTreeMap<MemberId, String>, String> {
    let text = std::str::from_utf8(&answer.body).map_err(|error| error.to_string())?;
    text.lines()
        .filter_map(|line| line.strip_prefix(RECEIVED))
        .map(|line| {
            let (label, value) = line.split_once("\"} ").ok_or("no value")?;
            let id = label.strip_prefix("From=\"").ok_or("no label From")?;
            Ok((id.parse().map_err(|_| "no member id")?, value.to_owned()))
        })
        .collect::<Result<_, &str>>()
        .map_err(|why| format!("{RECEIVED}…: {why}"))
}

/// Reads `/metrics` of an etcd. Errors: why it is no such page.
pub(crate) fn page(answer: &Answer) -> Result<BTreeMap<MemberId, Connected>, String> {
    if answer.status != 200 {
        return Err(format!("answered {}", answer.status));
    }
    let text = std::str::from_utf8(&answer.body).map_err(|error| error.to_string())?;
    if !text.lines().any(|line| line.starts_with(ETCDS_OWN)) {
        return Err("not etcd's metrics".to_owned());
    }
    let mut peers = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix(GAUGE)) {
        let (id, connection) = peer(line).ok_or_else(|| format!("not understood: {GAUGE}{line}"))?;
        // Whoever is connected by one line is connected.
        let known = peers.entry(id).or_insert(connection);
        *known = connection.max(*known);
    }
    Ok(peers)
}

/// `Local="8211f1d0f64f3269",Remote="91bc3c398fb3c146"} 1`.
fn peer(line: &str) -> Option<(MemberId, Connected)> {
    let (labels, value) = line.split_once("} ")?;
    let remote =
        labels.split(',').find_map(|label| label.trim().strip_prefix("Remote=\"")?.strip_suffix('"'))?;
    let count: f64 = value.split_ascii_whitespace().next()?.parse().ok()?;
    Some((remote.parse().ok()?, if count > 0.0 { Connected::Up } else { Connected::Down }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Result<BTreeMap<MemberId, Connected>, String> {
        page(&Answer { status, cluster_id: None, body: body.as_bytes().to_vec() })
    }

    /// As written by 3.6.16.
    const PAGE: &str = r#"# HELP etcd_network_active_peers The current number of active peer connections.
# TYPE etcd_network_active_peers gauge
etcd_network_active_peers{Local="8211f1d0f64f3269",Remote="91bc3c398fb3c146"} 0
etcd_network_active_peers{Local="8211f1d0f64f3269",Remote="fd422379fda50e48"} 1
# HELP etcd_server_has_leader Whether or not a leader exists. 1 is existence, 0 is not.
# TYPE etcd_server_has_leader gauge
etcd_server_has_leader 1
"#;

    #[test]
    fn the_gauge_is_read_as_etcd_writes_it() {
        let expected = BTreeMap::from([
            (MemberId(0x91bc_3c39_8fb3_c146), Connected::Down),
            (MemberId(0xfd42_2379_fda5_0e48), Connected::Up),
        ]);

        assert_eq!(of(200, PAGE), Ok(expected));
    }

    /// Seen with 3.6.16: a leader that had once joined called a dead follower connected for minutes.
    #[test]
    fn who_is_called_connected_and_sends_nothing_is_not() {
        let answer = |received: u32| {
            let lines = format!(
                "{PAGE}etcd_network_peer_received_bytes_total{{From=\"fd422379fda50e48\"}} {received}\n"
            );
            Answer { status: 200, cluster_id: None, body: lines.into_bytes() }
        };
        let (dead, other) = (MemberId(0x91bc_3c39_8fb3_c146), MemberId(0xfd42_2379_fda5_0e48));

        let sends = heard(&answer(100), &answer(230)).unwrap();
        assert_eq!((sends[&dead], sends[&other]), (Connected::Down, Connected::Up));
        let silent = heard(&answer(100), &answer(100)).unwrap();
        assert_eq!((silent[&dead], silent[&other]), (Connected::Down, Connected::Down));
    }

    #[test]
    fn a_member_without_peers_has_no_line_and_that_is_no_error() {
        assert_eq!(of(200, "etcd_server_has_leader 1\n"), Ok(BTreeMap::new()));
    }

    /// Taken for "connected to nobody", each of these would let a living member be removed.
    #[test]
    fn what_is_not_understood_is_an_error() {
        for (status, body) in [
            (404, PAGE),
            (200, ""),
            (200, "<html></html>"),
            (200, "etcd_server_has_leader 1\netcd_network_active_peers{Local=\"1\"} 1\n"),
            (200, "etcd_server_has_leader 1\netcd_network_active_peers{Remote=\"x\"} 1\n"),
            (200, "etcd_server_has_leader 1\netcd_network_active_peers{Remote=\"1\"}\n"),
        ] {
            assert!(of(status, body).is_err(), "{status} {body:?}");
        }
    }
}
