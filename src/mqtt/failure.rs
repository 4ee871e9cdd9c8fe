//! Why a connection could not be made or ended, in words for people.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as RustlsError};

use super::settings::{SessionError, SessionSettings};

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Failure {
    /// Certificates or password cannot be read any more.
    Files(SessionError),
    /// The network or TLS.
    Io(io::Error),
    /// No answer to the attempt to connect.
    TimedOut,
    /// The broker answered the attempt with no.
    Refused(Refusal),
    /// The broker takes QoS 0 only.
    NoQos1,
    /// The broker closed the connection without a word.
    Closed,
    /// The broker ended the connection and said why (MQTT 5, 3.14).
    Disconnected { reason: u8, text: String },
    /// The broker did not answer a ping.
    Silent,
    /// The broker answers, but acknowledges nothing.
    Stalled,
    /// Something that is not MQTT, or not as we speak it.
    Protocol(String),
}

/// Why a broker refused the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    BadCredentials,
    NotAuthorised,
    ClientId,
    Version,
    Retain,
    Qos,
    Other(String),
}

/// MQTT 5, 3.14.2.1: another connection uses our client id.
const SESSION_TAKEN_OVER: u8 = 0x8E;

impl Failure {
    /// One sentence without a full stop: what is wrong and where to look.
    pub(super) fn text(&self, settings: &SessionSettings) -> String {
        let SessionSettings { host, port, client_id, .. } = settings;
        match self {
            Self::Files(error) => error.to_string(),
            Self::Io(error) => io_text(error, settings),
            Self::TimedOut => format!("no answer from {host}:{port}"),
            Self::Refused(refusal) => refusal_text(refusal, settings),
            Self::NoQos1 => "the broker takes QoS 0 only, which acknowledges nothing: QoS 1 is needed".to_owned(),
            Self::Closed => {
                let hint = if settings.tls.is_some() { "" } else { " (does it expect TLS on this port?)" };
                format!("{host}:{port} closed the connection{hint}")
            }
            Self::Disconnected { reason: SESSION_TAKEN_OVER, .. } => {
                format!("another client connected with the client id {client_id:?}: it must be unique at the broker")
            }
            Self::Disconnected { reason, text } => {
                format!("the broker ended the connection: {text} (reason 0x{reason:02X})")
            }
            Self::Silent => format!("{host}:{port} stopped answering"),
            Self::Stalled => "the broker acknowledges nothing although data waits".to_owned(),
            Self::Protocol(error) => {
                format!("{host}:{port} does not speak this version of MQTT as expected: {error}")
            }
        }
    }
}

fn refusal_text(refusal: &Refusal, settings: &SessionSettings) -> String {
    match refusal {
        Refusal::BadCredentials => match &settings.username {
            Some(username) => format!("the broker does not accept user {username:?} with this password"),
            None => "the broker wants a user name and password".to_owned(),
        },
        Refusal::NotAuthorised => match &settings.username {
            Some(username) => format!("the broker does not authorise user {username:?}, or the password is wrong"),
            None => "the broker does not authorise us: it may want a user name and password".to_owned(),
        },
        Refusal::ClientId => format!("the broker does not accept the client id {:?}", settings.client_id),
        Refusal::Version => "the broker does not speak this version of MQTT: try the other protocol".to_owned(),
        Refusal::Retain => "the broker keeps no retained messages: connecting without them".to_owned(),
        Refusal::Qos => Failure::NoQos1.text(settings),
        Refusal::Other(reason) => format!("the broker refuses the connection: {reason}"),
    }
}

fn io_text(error: &io::Error, settings: &SessionSettings) -> String {
    let SessionSettings { host, port, .. } = settings;
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>()) {
        return tls_text(tls, settings);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("{host}:{port} refuses the connection: is the broker running?"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => format!("{host}:{port} reset the connection"),
        io::ErrorKind::TimedOut => format!("no answer from {host}:{port}"),
        io::ErrorKind::UnexpectedEof => format!("{host}:{port} closed the connection"),
        // What the standard library says when the resolver finds nothing; it has no kind of its own.
        _ if error.to_string().starts_with("failed to lookup address") => {
            format!("no address found for host {host:?}: check the name and the name server")
        }
        _ => format!("{host}:{port}: {error}"),
    }
}

fn tls_text(error: &RustlsError, settings: &SessionSettings) -> String {
    let SessionSettings { host, port, .. } = settings;
    let ca_file = settings.tls.as_ref().and_then(|tls| tls.ca_file.as_ref());
    match error {
        RustlsError::InvalidCertificate(CertificateError::UnknownIssuer) => match ca_file {
            Some(file) => format!("the broker's certificate is not signed by a CA in {}", file.display()),
            None => "the broker's certificate is not signed by a CA that this system trusts: give a CA file".to_owned(),
        },
        RustlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the broker's certificate has expired, or the clock here is wrong".to_owned()
        }
        RustlsError::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the broker's certificate is not valid yet, or the clock here is wrong".to_owned(),
        RustlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("the broker's certificate is not for the host {host:?}"),
        RustlsError::InvalidCertificate(other) => format!("the broker's certificate cannot be trusted: {other}"),
        RustlsError::AlertReceived(alert) => alert_text(*alert, settings),
        RustlsError::InvalidMessage(_) => format!("{host}:{port} does not speak TLS"),
        other => format!("TLS with {host}:{port}: {other}"),
    }
}

fn alert_text(alert: AlertDescription, settings: &SessionSettings) -> String {
    let shown = settings.tls.as_ref().and_then(|tls| tls.cert_file.as_ref());
    let about_our_certificate = matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
    );
    match (about_our_certificate, shown) {
        (true, Some(file)) => format!("the broker refuses the client certificate in {}: {alert:?}", file.display()),
        (true, None) => format!("the broker wants a client certificate: {alert:?}"),
        (false, _) => format!("the broker ended the TLS handshake: {alert:?}"),
    }
}
