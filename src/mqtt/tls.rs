//! The TLS side of a connection: which certificates we trust and show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::settings::TlsSettings;
use super::validity::Validity;
use crate::model::Timestamp;

/// Why certificates or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{what} file {}: {source}", file.display())]
    Unreadable {
        /// CA, certificate or key.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds nothing of its kind, or something damaged.
    #[error("{what} file {}: {reason}: must be PEM", file.display())]
    Unusable {
        /// CA, certificate or key.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Client certificate and key do not belong together.
    #[error("certificate file {} and key file {}: {source}", cert_file.display(), key_file.display())]
    NotAPair {
        /// The certificate.
        cert_file: PathBuf,
        /// The key.
        key_file: PathBuf,
        /// What TLS says.
        source: rustls::Error,
    },
    /// Only one of certificate and key is given.
    #[error("certificate file and key file must be given together")]
    HalfAPair,
    /// The operating system offers no CA.
    #[error("no trusted certificates on this system: install ca-certificates or give a CA file")]
    NoNativeRoots,
    /// No protocol version that we speak.
    #[error("TLS cannot be set up: {0}")]
    SetUp(#[source] rustls::Error),
}

/// The client side of TLS 1.2 and 1.3 with the files as they are now.
pub(super) fn client_config(settings: &TlsSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::SetUp)?
        .with_root_certificates(trusted(settings.ca_file.as_deref())?);
    let config = match (&settings.cert_file, &settings.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert_file), Some(key_file)) => {
            let chain = certificates("certificate", cert_file)?;
            let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| refused("key", key_file, error))?;
            let pair = builder.with_client_auth_cert(chain, key);
            pair.map_err(|source| TlsError::NotAPair {
                cert_file: cert_file.clone(),
                key_file: key_file.clone(),
                source,
            })?
        }
        (Some(_), None) | (None, Some(_)) => return Err(TlsError::HalfAPair),
    };
    Ok(Arc::new(config))
}

/// What is wrong with the time of the client certificate at `now`, in one sentence without a full stop.
pub(super) fn certificate_fault(settings: &TlsSettings, now: Timestamp) -> Option<String> {
    let cert_file = settings.cert_file.as_ref()?;
    let file = cert_file.display();
    let chain = certificates("certificate", cert_file).ok()?;
    let validity = Validity::of(chain.first()?)?;
    if now > validity.not_after {
        let end = validity.not_after;
        return Some(format!("the client certificate in {file} expired on {end}: renew it, or set the clock here"));
    }
    let begin = validity.not_before;
    (now < begin).then(|| format!("the client certificate in {file} is not valid before {begin}: check the clock here"))
}

fn trusted(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            for certificate in certificates("CA", file)? {
                roots.add(certificate).map_err(|error| TlsError::Unusable {
                    what: "CA",
                    file: file.to_owned(),
                    reason: error.to_string(),
                })?;
            }
        }
        // Some systems carry a certificate or two that nobody can parse: the others still count.
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    if roots.is_empty() { Err(TlsError::NoNativeRoots) } else { Ok(roots) }
}

fn certificates(what: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match found {
        Ok(none) if none.is_empty() => Err(refused(what, file, PemError::NoItemsFound)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(refused(what, file, error)),
    }
}

fn refused(what: &'static str, file: &Path, error: PemError) -> TlsError {
    let file = file.to_owned();
    match error {
        PemError::Io(source) => TlsError::Unreadable { what, file, source },
        PemError::NoItemsFound => TlsError::Unusable { what, file, reason: format!("holds no {what}") },
        other => TlsError::Unusable { what, file, reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ca_file: &Path) -> TlsSettings {
        TlsSettings { ca_file: Some(ca_file.to_owned()), cert_file: None, key_file: None }
    }

    #[test]
    fn a_missing_ca_file_is_named() {
        let error = client_config(&settings(Path::new("/nowhere/ca.pem"))).unwrap_err();

        assert!(error.to_string().starts_with("CA file /nowhere/ca.pem: No such file"), "{error}");
    }

    #[test]
    fn a_ca_file_without_certificates_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "not a certificate").unwrap();

        let error = client_config(&settings(file.path())).unwrap_err();

        let expected = format!("CA file {}: holds no CA: must be PEM", file.path().display());
        assert_eq!(error.to_string(), expected);
    }
}
