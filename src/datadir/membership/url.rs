//! Peer URLs as etcd takes them.
//!
//! etcd computes ids from a URL as its own parser prints it: the scheme in lower case, the host as it was written.
//! This release knows URLs in lower case only, so whatever would print differently is refused, with the form to
//! write, rather than corrected in silence: the other members may have been told the same text.

use std::collections::BTreeSet;

use super::Unfit;
use crate::etcd::id::PeerUrl;

/// One peer URL.
pub(super) fn peer_url(text: &str) -> Result<PeerUrl, Unfit> {
    let written = text.trim();
    let Some((scheme, authority)) = written.split_once("://") else {
        let corrected = normal(&format!("https://{written}"));
        return Err(unfit(written, "it has no scheme", corrected));
    };
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(unfit(written, "its scheme is neither https nor http", None));
    }
    match normal(&format!("{scheme}://{authority}")) {
        Some(url) if url.as_str() == format!("{scheme}://{authority}") => Ok(url),
        Some(url) => Err(unfit(written, "etcd would compute another id from it", Some(url))),
        None if normal(&format!("{scheme}://{authority}:2380")).is_some() => {
            let corrected = normal(&format!("{scheme}://{authority}:2380"));
            Err(unfit(written, "it has no port", corrected))
        }
        None => Err(unfit(written, "it is not scheme, host and port without a path", None)),
    }
}

/// A list of URLs with commas, as etcd's flags take them; one that is there twice is refused.
pub fn peer_urls(list: &str) -> Result<BTreeSet<PeerUrl>, Unfit> {
    let mut urls = BTreeSet::new();
    for text in list.split(',').filter(|text| !text.trim().is_empty()) {
        let url = peer_url(text)?;
        if !urls.insert(url) {
            return Err(unfit(text, "it is there twice", None));
        }
    }
    if urls.is_empty() { Err(unfit(list, "there is none", None)) } else { Ok(urls) }
}

fn normal(text: &str) -> Option<PeerUrl> {
    text.parse().ok()
}

fn unfit(text: &str, why: &'static str, corrected: Option<PeerUrl>) -> Unfit {
    Unfit::Url { text: text.to_owned(), why, corrected: corrected.map(|url| url.to_string()) }
}
