//! What can go wrong with a store, and what an operator does about it.

use object_store::Error;

use crate::report::Complaint;

/// Why a call failed, as far as callers and operators treat it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// There is no such object, or no such bucket.
    NotFound,
    /// There is such an object, and none is ever overwritten.
    Exists,
    /// Who we are may not do that.
    Denied,
    /// The store does not believe who we are.
    Credentials,
    /// No connection: name, network or certificate.
    Unreachable,
    /// A property or flag cannot be understood.
    Configuration,
    /// Anything else.
    Other,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing} in {url}: {why}")]
pub struct StoreError {
    /// What was to be done, with the object's name.
    pub doing: String,
    /// The store.
    pub url: String,
    /// Which kind of failure.
    pub failure: Failure,
    /// In the store's words.
    pub why: String,
}

impl StoreError {
    pub(super) fn of(doing: String, url: &str, error: &Error) -> Self {
        let why = chain(error);
        let failure = match error {
            Error::NotFound { .. } => Failure::NotFound,
            Error::AlreadyExists { .. } | Error::Precondition { .. } => Failure::Exists,
            Error::PermissionDenied { .. } => Failure::Denied,
            Error::Unauthenticated { .. } => Failure::Credentials,
            _ => answered(&why)
                .unwrap_or_else(|| if unreachable(&why) { Failure::Unreachable } else { of_io(error) }),
        };
        Self { doing, url: url.to_owned(), failure, why }
    }

    pub(super) fn other(doing: String, url: &str, why: String) -> Self {
        Self { doing, url: url.to_owned(), failure: Failure::Other, why }
    }

    pub(super) fn configuration(url: &str, why: String) -> Self {
        let doing = "use the store".to_owned();
        Self { doing, url: url.to_owned(), failure: Failure::Configuration, why }
    }

    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let what = self.to_string();
        match self.failure {
            Failure::NotFound => Complaint::failed(
                what,
                "without it the backup is incomplete, or the bucket or path is another one",
                "look whether bucket and path in the URL are right and the object was not removed",
            ),
            Failure::Exists => Complaint::failed(
                what,
                "objects are written once; somebody else writes into the same place",
                "give each deployment a path of its own in the store",
            ),
            Failure::Denied => Complaint::failed(
                what,
                "these credentials are known, and may not do that",
                "allow them to list, read, write and, for pruning, delete below that path",
            ),
            Failure::Credentials => Complaint::failed(
                what,
                "the store does not accept these credentials",
                "check key, secret and the machine's clock; for S3 also region and endpoint",
            ),
            Failure::Unreachable => Complaint::try_again(
                what,
                "the store could not be asked, or its answer was lost",
                "check name resolution, network and, with a CA of your own, store.ca; then run it again",
            ),
            Failure::Configuration => Complaint::failed(
                what,
                "the store cannot be used like this",
                "correct it; a URL is like s3://bucket/path, gs://bucket/path, az://container/path or file:///path",
            ),
            Failure::Other => Complaint::failed(
                what,
                "the store did not do what it was asked for",
                "mend what it complains about and run it again",
            ),
        }
    }
}

/// All that an error says, outermost first and nothing twice.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let told = source.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        next = source.source();
    }
    // Answers of a store are whole XML documents; a line is enough, and more of them than anybody reads is not.
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(600) {
        Some((cut, _)) => format!("{} …", &line[..cut]),
        None => line,
    }
}

/// What a store's answer means where the library has no kind of error for it: of lists, and of requests whose code says
/// more than their status. These are the codes of S3; GCS and Azure speak in statuses.
fn answered(why: &str) -> Option<Failure> {
    let codes: [(&[&str], Failure); 3] = [
        (
            &[
                "InvalidAccessKeyId",
                "SignatureDoesNotMatch",
                "ExpiredToken",
                "RequestTimeTooSkewed",
                "401 Unauthorized",
            ],
            Failure::Credentials,
        ),
        (&["NoSuchBucket", "404 Not Found"], Failure::NotFound),
        (&["AccessDenied", "403 Forbidden"], Failure::Denied),
    ];
    codes.iter().find(|(codes, _)| codes.iter().any(|code| why.contains(code))).map(|(_, failure)| *failure)
}

/// reqwest has one kind of error for all that happens before an answer.
fn unreachable(why: &str) -> bool {
    [
        "dns error",
        "error trying to connect",
        "client error (Connect)",
        "certificate",
        "tcp connect error",
        "timed out",
        "connection closed",
        "connection reset",
        "broken pipe",
    ]
    .iter()
    .any(|part| why.contains(part))
}

/// Files know what is denied, too.
fn of_io(error: &Error) -> Failure {
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        if let Some(io) = source.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::PermissionDenied => Failure::Denied,
                std::io::ErrorKind::NotFound => Failure::NotFound,
                _ => Failure::Other,
            };
        }
        next = source.source();
    }
    Failure::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_answers_is_sorted_by_what_an_operator_does_about_it() {
        let answer = |text: &str| {
            let error = Error::Generic { store: "S3", source: text.to_owned().into() };
            StoreError::of("list v1".to_owned(), "s3://bucket", &error).failure
        };
        for (text, failure) in [
            ("403 Forbidden: <Code>InvalidAccessKeyId</Code>", Failure::Credentials),
            ("403 Forbidden: <Code>RequestTimeTooSkewed</Code>", Failure::Credentials),
            ("403 Forbidden: <Code>AccessDenied</Code>", Failure::Denied),
            ("404 Not Found: <Code>NoSuchBucket</Code>", Failure::NotFound),
            ("client error (Connect): tcp connect error", Failure::Unreachable),
            ("client error (SendRequest): connection closed before message completed", Failure::Unreachable),
            ("503 Slow Down", Failure::Other),
        ] {
            assert_eq!(answer(text), failure, "{text}");
        }
    }

    #[test]
    fn a_long_answer_is_cut() {
        let error = Error::Generic { store: "S3", source: "ä ".repeat(2000).into() };

        assert!(StoreError::of("list".to_owned(), "s3://bucket", &error).why.chars().count() < 610);
    }
}
