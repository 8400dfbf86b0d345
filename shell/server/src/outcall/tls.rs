//! Who is believed to be who they say: TLS with the system's authorities, and those of a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_outcall::CallFailure;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, crypto};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::unreachable;
use super::names::Host;

/// Why there is no TLS. The server must not start: calls would be refused that its operator wants made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of authorities cannot be read, or is not PEM.
    #[error("the file of trusted authorities {path}: {cause}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: pem::Error,
    },
    /// It holds no certificate, or one that is none.
    #[error("the file of trusted authorities {0} holds no certificate that can be used")]
    NoCertificate(PathBuf),
    /// The library refuses its own defaults.
    #[error(transparent)]
    Library(#[from] rustls::Error),
}

/// The protocol that is spoken inside, which the two sides agree upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    Http1,
    Http2,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Tls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl Tls {
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        if system.certs.is_empty() {
            tracing::info!(
                "the system trusts no authority: calls over TLS need a file of authorities"
            );
        }
        roots.add_parsable_certificates(system.certs);
        if let Some(path) = ca_file {
            add(&mut roots, path)?;
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let speaking = |protocol: &str| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
            Arc::new(config)
        };
        Ok(Self { http1: speaking("http/1.1"), http2: speaking("h2") })
    }

    /// Makes a connection secret, and sure of its other end.
    ///
    /// # Errors
    /// `Unreachable`, with the reason: an unknown authority, another host's certificate, no TLS at all.
    pub(super) async fn wrap(
        &self,
        host: &Host,
        stream: TcpStream,
        inside: Inside,
    ) -> Result<TlsStream<TcpStream>, CallFailure> {
        let name = ServerName::try_from(host.name.clone()).map_err(unreachable)?;
        let config = match inside {
            Inside::Http1 => &self.http1,
            Inside::Http2 => &self.http2,
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, stream).await.map_err(unreachable)?;
        let agreed = stream.get_ref().1.alpn_protocol();
        if inside == Inside::Http2 && agreed != Some(b"h2") {
            return Err(unreachable("it does not speak HTTP/2, which gRPC needs"));
        }
        Ok(stream)
    }
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let unreadable = |cause| TlsError::Unreadable { path: path.to_owned(), cause };
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        roots.add(certificate).map_err(|_| TlsError::NoCertificate(path.to_owned()))?;
    }
    if roots.len() == before { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(()) }
}
