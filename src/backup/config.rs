//! Which store, and how to reach it: the properties `store.*` of job `etcd-backup`, or flags of the command line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The properties `store.*`. Everything but the URL has its meaning only with some kinds of stores.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreConfig {
    /// `file:///path`, `s3://bucket/path`, `gs://bucket/path` or `az://container/path`.
    pub url: String,
    /// S3: the region; with most compatible servers any word will do.
    pub region: Option<String>,
    /// S3, Azure, GCS: where the service is, if it is not the provider's own: `https://minio.example.com:9000`.
    pub endpoint: Option<String>,
    /// S3: the bucket in the path of the URL and not in the host name, as most compatible servers want it.
    pub path_style: bool,
    /// The CAs of the endpoint's certificate, in PEM; they replace the system's.
    pub ca: Option<String>,
    /// S3: without the two keys, the role of the instance is asked for.
    pub access_key_id: Option<String>,
    /// S3.
    pub secret_access_key: Option<String>,
    /// S3: a temporary credential's third part.
    pub session_token: Option<String>,
    /// GCS: the JSON of a service account; without it, the VM's own account is asked for.
    pub service_account_key: Option<String>,
    /// Azure: the storage account.
    pub account_name: Option<String>,
    /// Azure: its key; without key and token, the VM's managed identity is asked for.
    pub account_key: Option<String>,
    /// Azure: a shared access signature, `sv=…&sig=…`.
    pub sas_token: Option<String>,
}

/// Only what may be read by everybody.
impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("url", &self.url)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("path_style", &self.path_style)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_of_it_has_no_secret() {
        let secret = || Some("secret-word".to_owned());
        let config = StoreConfig {
            url: "s3://bucket".to_owned(),
            access_key_id: secret(),
            secret_access_key: secret(),
            session_token: secret(),
            service_account_key: secret(),
            account_key: secret(),
            sas_token: secret(),
            ..StoreConfig::default()
        };

        let printed = format!("{config:?}");

        assert!(printed.contains("s3://bucket") && !printed.contains("secret-word"), "{printed}");
    }
}
