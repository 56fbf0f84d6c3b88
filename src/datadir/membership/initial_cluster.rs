//! Members as they are typed: `--initial-cluster n1=https://a:2380,n1=https://b:2380,n2=https://c:2380`.

use super::{Listed, Unfit, url};
use crate::etcd::id::{MemberName, PeerUrl};

/// Reads a list of `NAME=URL` with commas. A member with several URLs repeats its name, as etcd's own tools want it;
/// empty parts are left out, as they leave them out.
pub fn parse(text: &str) -> Result<Listed, Unfit> {
    let mut listed = Listed::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, text) = entry.split_once('=').ok_or_else(|| no_pair(entry))?;
        if text.trim().is_empty() {
            return Err(no_pair(entry));
        }
        let name: MemberName = name.parse()?;
        let url = url::peer_url(text).map_err(|unfit| with_name(unfit, &name))?;
        add(&mut listed, name, url)?;
    }
    if listed.is_empty() { Err(Unfit::Empty) } else { Ok(listed) }
}

/// Adds a URL to a member.
pub(super) fn add(listed: &mut Listed, name: MemberName, url: PeerUrl) -> Result<(), Unfit> {
    let urls = listed.entry(name.clone()).or_default();
    if urls.insert(url.clone()) { Ok(()) } else { Err(Unfit::RepeatedUrl { url, name }) }
}

/// `https://a:2380` without a name, or a name without a URL.
fn no_pair(entry: &str) -> Unfit {
    Unfit::NoPair { entry: entry.to_owned() }
}

/// The corrected text is what is typed: with the name.
fn with_name(unfit: Unfit, name: &MemberName) -> Unfit {
    match unfit {
        Unfit::Url { text, why, corrected } => Unfit::Url {
            text: format!("{name}={text}"),
            why,
            corrected: corrected.map(|url| format!("{name}={url}")),
        },
        other => other,
    }
}
