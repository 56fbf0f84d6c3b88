//! etcd seen from outside. Pure arithmetic and ids on one side, connections on the other; nobody else
//! knows `etcd-client`, rustls or HTTP.

pub mod active_peers;
pub mod binary;
pub mod capability;
pub mod client;
pub mod config;
pub mod connect;
pub mod flags;
pub mod handover;
pub mod http;
pub mod id;
pub mod member;
pub mod mutex;
pub mod process;
pub mod quorum;
pub mod release_line;
pub mod renewal;
pub mod settings;
pub mod tls;
pub mod version;
