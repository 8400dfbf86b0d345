//! A coordinator behind https, with an authority of our own.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use quorate_client::{Coordinator, Error};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

/// Where the child is to ask, and what it is to hear.
const URL: &str = "QUORATE_CLIENT_TLS_URL";
const BELIEVES: &str = "QUORATE_CLIENT_TLS_BELIEVES";

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// A coordinator named `localhost` that hands out one name; its address.
async fn serve(authority: &CertifiedIssuer<'static, KeyPair>) -> String {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("key and certificate belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not believe us hangs up.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _request = stream.read(&mut [0; 4096]).await;
            let answer =
                "HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{\"gid\":\"g\"}";
            let _gone = stream.write_all(answer.as_bytes()).await;
            let _gone = stream.shutdown().await;
        }
    });
    format!("https://localhost:{port}/api")
}

/// Asks from a process of its own: whom to believe is a matter of the environment.
#[tokio::test]
async fn the_systems_authorities_are_believed_and_no_others() {
    if let Ok(url) = std::env::var(URL) {
        return ask(&url, std::env::var(BELIEVES).is_ok()).await;
    }
    let (ours, theirs) = (authority(), authority());
    let url = serve(&ours).await;
    let folder = tempfile::tempdir().expect("a folder");
    for (issuer, believes) in [(&ours, true), (&theirs, false)] {
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, issuer.pem()).expect("a file");
        let mut child = Command::new(std::env::current_exe().expect("this test"));
        child.args(["--exact", "tls::the_systems_authorities_are_believed_and_no_others"]);
        child.env(URL, &url).env("SSL_CERT_FILE", file).env_remove("SSL_CERT_DIR");
        if believes {
            child.env(BELIEVES, "1");
        }
        let output = tokio::task::spawn_blocking(move || child.output()).await;
        let output = output.expect("no panic").expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{believes}: {said}");
    }
}

async fn ask(url: &str, believes: bool) {
    let timeout = Duration::from_secs(5);
    let coordinator = Coordinator::new(url).with_timeouts(timeout, timeout);
    match coordinator.new_gid().await {
        Ok(gid) => assert!(believes && gid == "g", "{gid}"),
        Err(Error::Unavailable { why, .. }) => {
            assert!(!believes && why.contains("invalid peer certificate"), "{why}")
        }
        Err(other) => panic!("{other}"),
    }
}
