//! TLS for the streaming address. Who connects is asked for no certificate: the token in the URL says what he may.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::Config;
use crate::error::{Error, Result};

/// What takes connections, if a certificate is configured.
///
/// # Errors
/// `Invalid` for files that can't be read, are none, or don't belong together.
pub fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>> {
    let (certificate, key) = (&config.tls_cert_file, &config.tls_key_file);
    match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
        (true, true) => return Ok(None),
        (false, false) => {}
        _ => {
            return Err(Error::invalid("streaming: one of tls_cert_file and tls_key_file is set")
                .cure("set both, or none for plain HTTP"));
        }
    }
    let wrong = |path: &std::path::Path, error: String| {
        Error::invalid(format!("read {} for TLS: {error}", path.display()))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(certificate, error.to_string()))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| wrong(certificate, error.to_string()))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}
