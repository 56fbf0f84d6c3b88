//! Instances as people name them: `group`, `group/id` or `group/index`.

use anyhow::Result;

use super::model::Identity;
use crate::report::Complaint;

/// What a person typed to choose instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slug {
    group: String,
    one: Option<String>,
}

impl Slug {
    /// Reads a slug.
    pub fn parse(text: &str) -> Result<Self> {
        let (group, one) = match text.split_once('/') {
            None => (text, None),
            Some((group, one)) => (group, Some(one)),
        };
        if group.is_empty() || one.is_some_and(|one| one.is_empty() || one.contains('/')) {
            return Err(Complaint::failed(
                format!("Expected instance '{text}' to be in format 'name/index-or-id'"),
                "it chooses the instances to work on",
                "`etcd-local instances --details` shows them",
            )
            .into());
        }
        Ok(Self { group: group.to_owned(), one: one.map(str::to_owned) })
    }

    /// Whether it names a single instance.
    pub fn is_single(&self) -> bool {
        self.one.is_some()
    }

    /// Whether it chooses this instance.
    pub fn chooses(&self, identity: &Identity) -> bool {
        self.group == identity.group
            && self.one.as_ref().is_none_or(|one| *one == identity.id || *one == identity.index.to_string())
    }

    /// Those of `instances` it chooses; an error if it chooses none.
    pub fn choose<'a>(slug: Option<&Self>, instances: &'a [Identity]) -> Result<Vec<&'a Identity>> {
        let chosen: Vec<&Identity> =
            instances.iter().filter(|identity| slug.is_none_or(|slug| slug.chooses(identity))).collect();
        if let (true, Some(slug)) = (chosen.is_empty(), slug) {
            let text = slug.one.as_ref().map_or(slug.group.clone(), |one| format!("{}/{one}", slug.group));
            let there: Vec<String> = instances.iter().map(ToString::to_string).collect();
            return Err(Complaint::failed(
                format!("Instance '{text}' doesn't exist"),
                format!("there are: {}", there.join(", ")),
                "`etcd-local instances --details` shows them",
            )
            .into());
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn slugs_choose_by_group_id_and_index() {
        let identity = |group: &str, id: &str, index| Identity {
            deployment: "d".to_owned(),
            group: group.to_owned(),
            id: id.to_owned(),
            index,
            az: None,
            network: "n".to_owned(),
            ip: Ipv4Addr::LOCALHOST,
            bootstrap: false,
        };
        let all = [identity("etcd", "aa", 0), identity("etcd", "bb", 1), identity("proxy", "cc", 0)];
        let chosen = |text: &str| -> Vec<String> {
            let slug = Slug::parse(text).unwrap();
            Slug::choose(Some(&slug), &all)
                .map(|some| some.iter().map(|one| one.id.clone()).collect())
                .unwrap_or_default()
        };

        assert_eq!(chosen("etcd"), ["aa", "bb"]);
        assert_eq!(chosen("etcd/1"), ["bb"]);
        assert_eq!(chosen("etcd/aa"), ["aa"]);
        assert!(chosen("etcd/7").is_empty() && chosen("nobody").is_empty());
        assert_eq!(Slug::choose(None, &all).unwrap().len(), 3);
        for wrong in ["", "/1", "etcd/", "etcd/1/2"] {
            assert!(Slug::parse(wrong).is_err(), "{wrong}");
        }
    }
}
