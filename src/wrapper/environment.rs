//! Which variables etcdctl is started with: ours for what the user left open.
//!
//! etcdctl ends at once if a setting is given both ways, by flag and by variable, even an empty one
//! (seen with 3.5.30 and 3.6.16), so each is passed exactly one way and a flag removes its variable.
//! That happens without anybody's mistake: the command that `etcdctl watch -- COMMAND` runs has the
//! variables set here, and may call this wrapper again with a flag.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::etcd::tls::{Files, Role};

/// Reads one variable of the environment.
pub type Variables<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// A setting of etcdctl that the wrapper fills in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Whom to ask.
    Endpoints,
    /// How to recognise the members.
    CaCert,
    /// Who asks; with its key one thing, given together or not at all.
    Cert,
    /// The key of the certificate.
    Key,
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Endpoints, Self::CaCert, Self::Cert, Self::Key];

    /// Its flag, without the dashes.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::CaCert => "cacert",
            Self::Cert => "cert",
            Self::Key => "key",
        }
    }

    /// Its variable.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Endpoints => "ETCDCTL_ENDPOINTS",
            Self::CaCert => "ETCDCTL_CACERT",
            Self::Cert => "ETCDCTL_CERT",
            Self::Key => "ETCDCTL_KEY",
        }
    }
}

/// How the user gave one setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Not at all, or by an empty variable, which etcdctl takes for unset.
    NotGiven,
    /// By its variable.
    Variable,
    /// By its flag; the variable may be there, too.
    Flag,
}

/// What the user said about each setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said([How; 4]);

impl Said {
    fn how(self, setting: Setting) -> How {
        self.0[setting as usize]
    }

    /// Whether the user said whom to ask.
    pub fn endpoints(self) -> bool {
        self.how(Setting::Endpoints) != How::NotGiven
    }
}

/// What the user said, by flags and variables.
pub fn said(flags: &[Setting], variables: &Variables<'_>) -> Said {
    Said(Setting::ALL.map(|setting| {
        if flags.contains(&setting) {
            How::Flag
        } else if variables(setting.variable()).is_some_and(|value| !value.is_empty()) {
            How::Variable
        } else {
            How::NotGiven
        }
    }))
}

/// Where the administrator's certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    files: Files,
}

impl Admin {
    /// The files in the job's `config` directory.
    pub fn below(config: &Path) -> Self {
        Self { files: Files::of(config, Role::Admin) }
    }

    /// The file a setting names; endpoints are no file.
    pub fn file(&self, setting: Setting) -> Option<&PathBuf> {
        match setting {
            Setting::Endpoints => None,
            Setting::CaCert => Some(&self.files.ca),
            Setting::Cert => Some(&self.files.certificate),
            Setting::Key => Some(&self.files.key),
        }
    }
}

/// One change of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The variable gets this value.
    Set(&'static str, OsString),
    /// The variable goes, because its flag is given.
    Remove(&'static str),
}

/// What to change. `endpoints` is absent when they are not known.
pub fn decide(said: Said, admin: &Admin, endpoints: Option<String>) -> Vec<Change> {
    // A certificate of the user's with a key of ours would fail with a riddle.
    let pair_is_open = [Setting::Cert, Setting::Key].map(|half| said.how(half)) == [How::NotGiven; 2];
    let mut endpoints = endpoints;
    let mut changes = Vec::with_capacity(Setting::ALL.len());
    for setting in Setting::ALL {
        let ours = match setting {
            Setting::Endpoints => endpoints.take().map(OsString::from),
            Setting::CaCert => admin.file(setting).map(OsString::from),
            Setting::Cert | Setting::Key => admin.file(setting).filter(|_| pair_is_open).map(OsString::from),
        };
        match said.how(setting) {
            How::NotGiven => changes.extend(ours.map(|value| Change::Set(setting.variable(), value))),
            How::Variable => {}
            How::Flag => changes.push(Change::Remove(setting.variable())),
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "/j";

    fn set(variable: &'static str, value: &str) -> Change {
        Change::Set(variable, value.into())
    }

    fn ours() -> [Change; 4] {
        [
            set("ETCDCTL_ENDPOINTS", "https://a:2379"),
            set("ETCDCTL_CACERT", "/j/admin-ca.crt"),
            set("ETCDCTL_CERT", "/j/admin.crt"),
            set("ETCDCTL_KEY", "/j/admin.key"),
        ]
    }

    fn changes(flags: &[Setting], variables: &[(&str, &str)]) -> Vec<Change> {
        let lookup = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        let endpoints = Some("https://a:2379".to_owned());
        decide(said(flags, &lookup), &Admin::below(Path::new(CONFIG)), endpoints)
    }

    #[test]
    fn what_the_user_left_open_is_ours() {
        assert_eq!(changes(&[], &[]), ours());
        assert_eq!(changes(&[], &[("ETCDCTL_CERT", ""), ("ETCDCTL_USER", "root")]), ours(), "empty is unset");
    }

    #[test]
    fn a_variable_of_the_user_stays() {
        let [_, cacert, cert, key] = ours();
        assert_eq!(changes(&[], &[("ETCDCTL_ENDPOINTS", "x")]), [cacert, cert, key]);
    }

    #[test]
    fn a_flag_removes_its_variable_even_an_empty_one() {
        let [endpoints, cacert, cert, key] = ours();
        let gone = Change::Remove("ETCDCTL_ENDPOINTS");
        for variables in [vec![], vec![("ETCDCTL_ENDPOINTS", "")], vec![("ETCDCTL_ENDPOINTS", "x")]] {
            assert_eq!(
                changes(&[Setting::Endpoints], &variables),
                [gone.clone(), cacert.clone(), cert.clone(), key.clone()]
            );
        }
        assert_eq!(
            changes(&[Setting::CaCert], &[]),
            [endpoints, Change::Remove("ETCDCTL_CACERT"), cert, key]
        );
    }

    #[test]
    fn certificate_and_key_are_ours_together_or_not_at_all() {
        let [endpoints, cacert, ..] = ours();
        for half in ["ETCDCTL_CERT", "ETCDCTL_KEY"] {
            assert_eq!(changes(&[], &[(half, "/mine")]), [endpoints.clone(), cacert.clone()]);
        }
        assert_eq!(changes(&[Setting::Cert], &[]), [endpoints, cacert, Change::Remove("ETCDCTL_CERT")]);
    }

    #[test]
    fn unknown_endpoints_are_left_to_etcdctl() {
        let said = said(&[], &|_| None);
        let [_, cacert, cert, key] = ours();
        assert_eq!(decide(said, &Admin::below(Path::new(CONFIG)), None), [cacert, cert, key]);
    }
}
