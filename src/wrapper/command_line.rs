//! Which connection flags the user gave. The command line is looked at as etcdctl's own parser does
//! (pflag, seen with etcdctl 3.6.16), and never changed.
//!
//! - `--flag value` and `--flag=value`, anywhere among the other arguments; none of ours has a short form.
//! - A flag that takes a value swallows the next argument whatever it looks like, so a password
//!   `--cert` is a password.
//! - Flags end at `--`; what follows may be another command with flags of its own (`watch`, `lock`).

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::environment::Setting;

/// Other global flags whose value is free text and could look like one of ours.
const FREE_TEXT: [&[u8]; 2] = [b"user", b"password"];

/// The settings the command line has a flag for.
pub fn flags(arguments: &[OsString]) -> Vec<Setting> {
    let mut given = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(flag) = argument.as_bytes().strip_prefix(b"--") else {
            continue;
        };
        if flag.is_empty() {
            break;
        }
        let (name, has_value) = match flag.iter().position(|byte| *byte == b'=') {
            Some(position) => (&flag[..position], true),
            None => (flag, false),
        };
        let setting = Setting::ALL.into_iter().find(|setting| setting.flag().as_bytes() == name);
        given.extend(setting);
        if !has_value && (setting.is_some() || FREE_TEXT.contains(&name)) {
            arguments.next();
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use Setting::{CaCert, Cert, Endpoints, Key};
    use proptest::prelude::*;

    fn flags_of(line: &str) -> Vec<Setting> {
        flags(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_seen_where_etcdctl_sees_them() {
        let cases: [(&str, &[Setting]); 14] = [
            ("get a", &[]),
            ("--endpoints=x get a", &[Endpoints]),
            ("--endpoints x get a", &[Endpoints]),
            ("get a --endpoints x", &[Endpoints]),
            ("get a --endpoints=", &[Endpoints]),
            ("--cacert a --cert b --key c get a", &[CaCert, Cert, Key]),
            // Another flag's value.
            ("--cert --key get a", &[Cert]),
            ("--user root --password --cert get a", &[]),
            ("--user=root --password=p --cert=c get a", &[Cert]),
            // After the end of the flags.
            ("watch a -- etcdctl --endpoints=x get b", &[]),
            ("--key=k watch a -- sh -c --cert", &[Key]),
            // Others that only look alike.
            ("make-mirror --dest-cert=x --dest-key y z", &[]),
            ("get --keys-only --endpointsx=1 -endpoints=1 endpoints=1", &[]),
            ("-w json --endpoints x", &[Endpoints]),
        ];
        for (line, expected) in cases {
            assert_eq!(flags_of(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn odd_bytes_never_panic(arguments: Vec<Vec<u8>>) {
            use std::os::unix::ffi::OsStringExt;
            let arguments: Vec<OsString> = arguments.into_iter().map(OsString::from_vec).collect();
            flags(&arguments);
        }
    }
}
