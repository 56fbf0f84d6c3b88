//! From a URL and properties to a store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Certificate, ClientOptions, ObjectStore, RetryConfig};

use super::{Store, StoreError};
use crate::backup::config::StoreConfig;

/// How long a connection may take, and how long an answer may say nothing. There is no limit on a whole transfer:
/// what moves on is let go on.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const SILENT_AT_MOST: Duration = Duration::from_mins(1);
/// How long a request is tried again. More would hide an outage from whoever watches.
const RETRY_FOR: Duration = Duration::from_mins(1);
const RETRIES: usize = 5;

pub(super) fn open(config: &StoreConfig) -> Result<Store, StoreError> {
    let url = config.url.as_str();
    let wrong = |why: String| StoreError::configuration(url, why);
    let Some((scheme, rest)) =
        url.split_once("://").map(|(scheme, rest)| (scheme, rest.trim_end_matches('/')))
    else {
        return Err(wrong("it is no URL of a store".to_owned()));
    };
    if url.contains(['@', '?', '#']) {
        // What it carries may be a secret, and messages are in logs.
        let why = "a URL carries no credentials and no options; they are properties";
        return Err(StoreError::configuration(&format!("{scheme}://…"), why.to_owned()));
    }
    let built = |built: Result<Arc<dyn ObjectStore>, object_store::Error>| {
        built.map_err(|error| wrong(error.to_string()))
    };
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    if scheme != "file" && place.is_empty() {
        return Err(wrong("it names no bucket".to_owned()));
    }
    let mut directory = None;
    let (inner, root) = match scheme {
        "file" => {
            if !rest.starts_with('/') {
                return Err(wrong("a path is absolute: file:///var/vcap/store/backups".to_owned()));
            }
            std::fs::create_dir_all(rest).map_err(|error| wrong(format!("{rest}: {error}")))?;
            directory = Some(PathBuf::from(rest));
            let files = LocalFileSystem::new_with_prefix(rest)
                .map(|files| files.with_fsync(true).with_automatic_cleanup(true));
            (built(files.map(|files| Arc::new(files) as _))?, "")
        }
        "s3" => (built(s3(config, place)?.build().map(|store| Arc::new(store) as _))?, path),
        "gs" => (built(gcs(config, place)?.build().map(|store| Arc::new(store) as _))?, path),
        "az" => (built(azure(config, place)?.build().map(|store| Arc::new(store) as _))?, path),
        other => return Err(wrong(format!("there is no store of kind '{other}'"))),
    };
    Ok(Store { inner, root: Path::from(root), directory, url: url.to_owned(), meter: Arc::default() })
}

/// A property, and how a builder takes it.
type Setting<'a, B> = (&'a Option<String>, fn(B, &str) -> B);

fn s3(config: &StoreConfig, bucket: &str) -> Result<AmazonS3Builder, StoreError> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_client_options(client(config)?)
        .with_retry(retry())
        .with_virtual_hosted_style_request(!config.path_style);
    let set: [Setting<AmazonS3Builder>; 5] = [
        (&config.region, |builder, value| builder.with_region(value)),
        (&config.endpoint, |builder, value| builder.with_endpoint(value)),
        (&config.access_key_id, |builder, value| builder.with_access_key_id(value)),
        (&config.secret_access_key, |builder, value| builder.with_secret_access_key(value)),
        (&config.session_token, |builder, value| builder.with_token(value)),
    ];
    for (value, set) in set {
        if let Some(value) = value {
            builder = set(builder, value);
        }
    }
    Ok(builder)
}

fn gcs(config: &StoreConfig, bucket: &str) -> Result<GoogleCloudStorageBuilder, StoreError> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client(config)?)
        .with_retry(retry());
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    if let Some(key) = &config.service_account_key {
        builder = builder.with_service_account_key(key);
    }
    Ok(builder)
}

fn azure(config: &StoreConfig, container: &str) -> Result<MicrosoftAzureBuilder, StoreError> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_client_options(client(config)?)
        .with_retry(retry());
    let set: [Setting<MicrosoftAzureBuilder>; 4] = [
        (&config.account_name, |builder, value| builder.with_account(value)),
        (&config.account_key, |builder, value| builder.with_access_key(value)),
        (&config.endpoint, |builder, value| builder.with_endpoint(value.to_owned())),
        (&config.sas_token, |builder, value| builder.with_config(AzureConfigKey::SasKey, value)),
    ];
    for (value, set) in set {
        if let Some(value) = value {
            builder = set(builder, value);
        }
    }
    Ok(builder)
}

fn client(config: &StoreConfig) -> Result<ClientOptions, StoreError> {
    // Ignored: whoever came first installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let plain = config.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut options = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_WITHIN)
        .with_read_timeout(SILENT_AT_MOST)
        .with_allow_http(plain);
    if let Some(ca) = &config.ca {
        let wrong = |why: String| StoreError::configuration(&config.url, why);
        let bundle = Certificate::from_pem_bundle(ca.as_bytes())
            .map_err(|error| wrong(format!("store.ca cannot be read: {error}")))?;
        if bundle.is_empty() {
            return Err(wrong("store.ca has no certificate in it".to_owned()));
        }
        options = options.with_no_system_certificates(true);
        for certificate in bundle {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_FOR, ..RetryConfig::default() }
}
