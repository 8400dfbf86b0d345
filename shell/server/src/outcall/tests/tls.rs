//! Encrypted calls, with an authority of our own.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;
use crate::outcall::TlsError;

/// An authority, its certificate in a file, and a server's certificate for these names.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// What a server of this name shows, and the protocols that it speaks.
    fn acceptor(&self, name: &str, protocols: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    async fn server(&self, name: &str, protocols: &[&str]) -> Server {
        let tell = handler(async |request: Request<Bytes>| {
            if request.uri().path().starts_with("/busi") {
                let mut response = reply(200, "");
                response.headers_mut().insert("grpc-status", 9.into());
                return response;
            }
            let host = request.headers().get("host").unwrap().as_bytes();
            reply(200, host.to_vec())
        });
        Server::start_at("127.0.0.1:0", tell, Some(self.acceptor(name, protocols))).await
    }

    fn trusting(&self) -> Client {
        Client::with(&Options { ca_file: Some(self.file()), ..Options::default() })
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_if_it_is_named() {
    let authority = Authority::new();
    let server = authority.server("localhost", &["h2", "http/1.1"]).await;
    let host = format!("localhost:{}", server.at.port());
    let mut client = authority.trusting();
    for _ in 0..3 {
        let result = client.call(post(format!("https://{host}/x"), "x")).await;
        assert_eq!(result, answered(200, host.clone()));
    }
    assert_eq!(server.connections(), 1);
    for scheme in ["grpcs", "https"] {
        let result =
            client.call(call(format!("{scheme}://{host}/busi.Busi/x"), Wire::Grpc, "")).await;
        assert_eq!(result, answered(9, ""));
    }
    assert_eq!(server.connections(), 2);
    let result = Client::new().call(post(format!("https://{host}/x"), "x")).await;
    assert_unreachable(result, "UnknownIssuer");
}

#[tokio::test]
async fn an_address_is_a_name_too() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1", &[]).await;
    let mut client = authority.trusting();
    let url = format!("https://{}/x", server.at);
    assert_eq!(client.call(get(&url)).await, answered(200, server.at.to_string()));
    // It does not say that it speaks HTTP/2.
    let result =
        client.call(call(format!("grpcs://{}/busi.Busi/x", server.at), Wire::Grpc, "")).await;
    assert_unreachable(result, "HTTP/2");
}

#[tokio::test]
async fn who_is_another_is_not_talked_to() {
    let authority = Authority::new();
    let server = authority.server("pay.example", &[]).await;
    let result =
        authority.trusting().call(get(format!("https://localhost:{}/", server.at.port()))).await;
    assert_unreachable(result, "pay.example");
    // Nor is who does not speak TLS.
    let plain = Server::start(handler(async |_| reply(200, "ok"))).await;
    let result = authority.trusting().call(get(format!("https://{}/", plain.at))).await;
    assert!(matches!(failure(result), CallFailure::Unreachable(_)));
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_refused() {
    let authority = Authority::new();
    let refused = |path: PathBuf| {
        let options = Options { ca_file: Some(path), ..Options::default() };
        let runtime = tokio::runtime::Handle::current();
        Executor::new(runtime, &options, |_, _| {}).err().expect("refused")
    };
    let absent = authority.folder.path().join("absent.pem");
    assert!(matches!(refused(absent), TlsError::Unreadable { .. }));
    for (name, text) in [("empty.pem", ""), ("text.pem", "no certificate")] {
        let path = authority.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        assert!(matches!(refused(path), TlsError::NoCertificate(_)), "{name}");
    }
    let path = authority.folder.path().join("odd.pem");
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    assert!(matches!(refused(path), TlsError::NoCertificate(_)));
}
