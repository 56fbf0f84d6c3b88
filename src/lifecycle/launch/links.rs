//! Which peer URLs were ever in this instance's link. An entry whose URL never was belongs to somebody else
//! and is never evicted (docs/contract.md#evict).

use std::collections::BTreeSet;
use std::io;

use serde::{Deserialize, Serialize};

use super::records::RECORD_VERSION;
use crate::etcd::id::PeerUrl;
use crate::job::paths::Paths;
use crate::lifecycle::records::{self, Record};

/// The history of the link, as a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct LinkHistory {
    peer_urls: BTreeSet<PeerUrl>,
}

impl Record for LinkHistory {
    const FILE: &'static str = "links.json";
    const VERSION: u32 = RECORD_VERSION;
}

/// All peer URLs remembered so far.
pub fn read(paths: &Paths) -> io::Result<BTreeSet<PeerUrl>> {
    Ok(records::read::<LinkHistory>(paths)?.unwrap_or_default().peer_urls)
}

/// Adds these to what is remembered; writes only if one is new.
pub fn remember(paths: &Paths, urls: impl IntoIterator<Item = PeerUrl>) -> io::Result<()> {
    let known = read(paths)?;
    let mut peer_urls = known.clone();
    peer_urls.extend(urls);
    if peer_urls == known {
        return Ok(());
    }
    records::write(paths, &LinkHistory { peer_urls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_once_in_the_link_is_never_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::below(directory.path());
        std::fs::create_dir_all(paths.data_dir()).unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|host| PeerUrl::https(host, 2380));
        assert_eq!(read(&paths).unwrap(), BTreeSet::new());

        remember(&paths, [a.clone(), b.clone()]).unwrap();
        remember(&paths, [c.clone()]).unwrap();
        let written = std::fs::metadata(records::path::<LinkHistory>(&paths)).unwrap().modified().unwrap();
        remember(&paths, [b.clone()]).unwrap();

        assert_eq!(read(&paths).unwrap(), BTreeSet::from([a, b, c]));
        let after = std::fs::metadata(records::path::<LinkHistory>(&paths)).unwrap().modified().unwrap();
        assert_eq!(written, after, "nothing new, nothing written");
    }
}
