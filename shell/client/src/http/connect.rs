//! How connections are made: plainly, and with the feature `tls` also over TLS.
//!
//! Whom to believe: the system's authorities, or those in the file that the variable `SSL_CERT_FILE` names.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;

/// What connects.
#[cfg(not(feature = "tls"))]
pub(super) type Connector = HttpConnector;

/// What connects.
#[cfg(feature = "tls")]
pub(super) type Connector = hyper_rustls::HttpsConnector<HttpConnector>;

/// A connector that gives up after `timeout`.
pub(super) fn connector(timeout: Duration) -> Connector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(timeout));
    secured(connector)
}

#[cfg(not(feature = "tls"))]
fn secured(connector: HttpConnector) -> Connector {
    connector
}

#[cfg(feature = "tls")]
fn secured(mut connector: HttpConnector) -> Connector {
    connector.enforce_http(false);
    hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config())
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector)
}

/// Read once: the files of a system's authorities are large.
#[cfg(feature = "tls")]
fn config() -> rustls::ClientConfig {
    use std::sync::{Arc, OnceLock};
    static CONFIG: OnceLock<rustls::ClientConfig> = OnceLock::new();
    let made = || {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("ring speaks the versions of TLS that rustls takes for safe")
        .with_root_certificates(roots)
        .with_no_client_auth()
    };
    CONFIG.get_or_init(made).clone()
}
