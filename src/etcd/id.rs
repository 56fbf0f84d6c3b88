//! Names and numbers that identify members and clusters, each with its own type.
//!
//! Ids print as etcdctl prints them: lower-case hexadecimal without `0x` and without padding; only
//! etcd's own JSON has them in decimal (docs/contract.md#ids).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use ring::digest;
use serde::{Deserialize, Serialize};

/// Why a text is not an id, a name or a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct Malformed {
    text: String,
    expected: &'static str,
}

macro_rules! hexadecimal_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                let malformed = || Malformed { text: text.to_owned(), expected: $expected };
                // from_str_radix would accept a leading plus sign.
                if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(malformed());
                }
                u64::from_str_radix(text, 16).map(Self).map_err(|_| malformed())
            }
        }

        impl TryFrom<String> for $name {
            type Error = Malformed;

            fn try_from(text: String) -> Result<Self, Malformed> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

hexadecimal_id!(
    /// Identifies a lease; etcd's own interface has it with a sign.
    LeaseId, "a lease id in hexadecimal"
);

hexadecimal_id!(
    /// The id of one member: what its log carries, and what `member remove` takes.
    MemberId,
    "a member id (up to 16 hexadecimal digits)"
);
hexadecimal_id!(
    /// The id of a cluster: fixed by its first members and token, never changed later.
    ClusterId,
    "a cluster id (up to 16 hexadecimal digits)"
);

impl MemberId {
    /// The id that static bootstrap gives a member: the first eight bytes of SHA-1 over its sorted
    /// peer URLs followed by the cluster token. Members that were added by `member add` have another
    /// one, which only the answer tells (docs/contract.md#ids).
    pub fn bootstrapped(peer_urls: &BTreeSet<PeerUrl>, token: &str) -> Self {
        let mut text: String = peer_urls.iter().map(PeerUrl::as_str).collect();
        text.push_str(token);
        Self(first_eight_bytes(text.as_bytes()))
    }
}

impl ClusterId {
    /// The id of the cluster that these members bootstrap.
    pub fn bootstrapped(members: &BTreeSet<MemberId>) -> Self {
        let bytes: Vec<u8> = members.iter().flat_map(|member| member.0.to_be_bytes()).collect();
        Self(first_eight_bytes(&bytes))
    }
}

fn first_eight_bytes(bytes: &[u8]) -> u64 {
    // SHA-1 is etcd's choice for these ids; nothing here relies on it for security.
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let first: [u8; 8] = hash.as_ref()[..8].try_into().expect("a SHA-1 hash has 20 bytes");
    u64::from_be_bytes(first)
}

/// A member's `--name`: `spec.id` for members this release makes. Never an identity: others' names
/// may be anything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MemberName(String);

impl MemberName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MemberName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        // It becomes a key of `initial-cluster`: name=url,name=url.
        if text.is_empty() || text.contains(['=', ',']) || text.chars().any(char::is_whitespace) {
            return Err(Malformed {
                text: text.to_owned(),
                expected: "a member name (not empty, without '=', ',' and blanks)",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for MemberName {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<MemberName> for String {
    fn from(name: MemberName) -> Self {
        name.0
    }
}

macro_rules! https_url {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The `https` URL of this host (name or address) and port, in the one normal form.
            pub fn https(host: &str, port: u16) -> Self {
                let host = host.to_ascii_lowercase();
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                if bare.contains(':') { Self(format!("https://[{bare}]:{port}")) } else { Self(format!("https://{bare}:{port}")) }
            }

            /// The same without TLS.
            pub fn http(host: &str, port: u16) -> Self {
                Self(Self::https(host, port).0.replacen("https:", "http:", 1))
            }

            /// `scheme://host:port`, lower-case.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The host without the brackets of an IPv6 address.
            pub fn host(&self) -> &str {
                self.host_and_port().0
            }

            /// The port.
            pub fn port(&self) -> u16 {
                self.host_and_port().1
            }

            /// Whether connections to it use TLS.
            pub fn is_https(&self) -> bool {
                self.0.starts_with("https://")
            }

            fn host_and_port(&self) -> (&str, u16) {
                let authority = self.0.split_once("://").expect("checked when parsed").1;
                let (host, port) = authority.rsplit_once(':').expect("checked when parsed");
                (host.trim_start_matches('[').trim_end_matches(']'), port.parse().expect("checked when parsed"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                normalised(text).map(Self).ok_or_else(|| Malformed { text: text.to_owned(), expected: $expected })
            }
        }

        impl TryFrom<String> for $name {
            type Error = Malformed;

            fn try_from(text: String) -> Result<Self, Malformed> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(url: $name) -> Self {
                url.0
            }
        }
    };
}

https_url!(
    /// Where a member is reached by its peers. Together with the member id this is its identity.
    PeerUrl,
    "a peer URL (http or https, host and port, no path)"
);
https_url!(
    /// Where a member is reached by clients. Another type than [`PeerUrl`], so that a client URL
    /// cannot end up in `member add`.
    ClientUrl,
    "a client URL (http or https, host and port, no path)"
);

/// etcd demands scheme, host and port and refuses a path; we compare after lower-casing and dropping
/// a trailing slash.
fn normalised(text: &str) -> Option<String> {
    let lower = text.trim_end_matches('/').to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://")?;
    let (host, port) = authority.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let host_fits = match bare {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    (host_fits && matches!(scheme, "http" | "https")).then(|| format!("{scheme}://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_those_etcd_computes() {
        // Seen with etcd 3.6.16: three static members on these URLs with this token.
        let urls = |text: &str| BTreeSet::from([text.parse::<PeerUrl>().unwrap()]);
        let one = MemberId::bootstrapped(&urls("http://localhost:2380"), "etcd-cluster");
        // The ids of etcd's own documented default single member.
        assert_eq!(one.to_string(), "8e9e05c52164694d");
        assert_eq!(ClusterId::bootstrapped(&BTreeSet::from([one])).to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn urls_are_compared_in_one_normal_form() {
        let parsed: PeerUrl = "HTTPS://A.b:2380/".parse().unwrap();
        assert_eq!(parsed, PeerUrl::https("a.B", 2380));
        assert_eq!((parsed.host(), parsed.port(), parsed.is_https()), ("a.b", 2380, true));
        assert_eq!(PeerUrl::https("::1", 1).host(), "::1");
        for wrong in [
            "",
            "a:1",
            "https://a",
            "https://a:0",
            "https://a:70000",
            "https://a:1/x",
            "ftp://a:1",
            "https://a b:1",
            "https://:1",
        ] {
            assert!(wrong.parse::<PeerUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_that_would_break_initial_cluster_are_refused() {
        for wrong in ["", "a=b", "a,b", "a b", "a\n"] {
            assert!(wrong.parse::<MemberName>().is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_an_id_are_inverse(number: u64) {
            prop_assert_eq!(MemberId(number).to_string().parse::<MemberId>(), Ok(MemberId(number)));
        }

        #[test]
        fn parsing_an_id_never_panics(text: String) {
            let _ = text.parse::<ClusterId>();
        }

        #[test]
        fn parsing_a_url_never_panics_and_is_stable(text in "[a-zA-Z:/\\[\\].0-9-]{0,40}") {
            if let Ok(url) = text.parse::<PeerUrl>() {
                prop_assert_eq!(url.as_str().parse::<PeerUrl>().unwrap(), url);
            }
        }
    }
}
