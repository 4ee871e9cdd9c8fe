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
    /// The same before it had accepted us.
    ClosedUnanswered,
    /// The broker ended the connection and said why (MQTT 5, 3.14).
    Disconnected { reason: u8, text: String },
    /// The broker refused a message for a reason that the client library cannot read, which ends the connection
    /// (MQTT 5, 2.4).
    UnreadableRefusal { reason: u8, text: &'static str },
    /// The broker names another server, for now or for good (MQTT 5, 4.13).
    Moved { is_for_good: bool, to: Option<String> },
    /// The broker did not answer a ping.
    Silent,
    /// The broker answers, but acknowledges nothing.
    Stalled,
    /// Something the client does not understand.
    Protocol(String),
    /// The same before the broker had accepted us.
    NotMqtt,
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
/// MQTT 5, 3.14.2.1.
const PACKET_TOO_LARGE: u8 = 0x95;

impl Failure {
    /// The same failure, knowing that the broker had not accepted us yet.
    pub(super) fn unanswered(self) -> Self {
        match self {
            Self::Closed => Self::ClosedUnanswered,
            Self::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                ) =>
            {
                Self::ClosedUnanswered
            }
            Self::Protocol(_) | Self::UnreadableRefusal { .. } => Self::NotMqtt,
            other => other,
        }
    }

    /// Whether the broker ended an accepted connection: a packet may have been too large for it.
    pub(super) fn is_closed_by_broker(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
            ),
            Self::Disconnected { reason, .. } | Self::UnreadableRefusal { reason, .. } => *reason == PACKET_TOO_LARGE,
            Self::Files(_)
            | Self::TimedOut
            | Self::Refused(_)
            | Self::NoQos1
            | Self::ClosedUnanswered
            | Self::Moved { .. }
            | Self::Silent
            | Self::Stalled
            | Self::Protocol(_)
            | Self::NotMqtt => false,
        }
    }

    /// Whether the broker said that a packet was too large for it.
    pub(super) fn says_too_large(&self) -> bool {
        matches!(
            self,
            Self::Disconnected { reason: PACKET_TOO_LARGE, .. }
                | Self::UnreadableRefusal { reason: PACKET_TOO_LARGE, .. }
        )
    }

    /// The same failure with the server that the broker names, where it does.
    pub(super) fn naming(self, server: Option<String>) -> Self {
        match (self, server) {
            (Self::Moved { is_for_good, to: None }, Some(server)) => Self::Moved { is_for_good, to: Some(server) },
            (other, _) => other,
        }
    }

    /// Whether another look at the port may show more.
    pub(super) fn is_puzzling(&self) -> bool {
        match self {
            Self::NotMqtt | Self::ClosedUnanswered | Self::TimedOut | Self::Protocol(_) => true,
            Self::Io(error) => matches!(rustls_error(error), Some(RustlsError::InvalidMessage(_))),
            Self::Files(_)
            | Self::Refused(_)
            | Self::NoQos1
            | Self::Closed
            | Self::Disconnected { .. }
            | Self::UnreadableRefusal { .. }
            | Self::Moved { .. }
            | Self::Silent
            | Self::Stalled => false,
        }
    }

    /// Whether the client certificate may be the cause.
    pub(super) fn may_be_certificate(&self) -> bool {
        match self {
            Self::Closed | Self::ClosedUnanswered => true,
            Self::Io(error) => matches!(rustls_error(error), Some(RustlsError::AlertReceived(_))),
            Self::Files(_)
            | Self::TimedOut
            | Self::Refused(_)
            | Self::NoQos1
            | Self::Disconnected { .. }
            | Self::UnreadableRefusal { .. }
            | Self::Moved { .. }
            | Self::Silent
            | Self::Stalled
            | Self::Protocol(_)
            | Self::NotMqtt => false,
        }
    }

    /// One sentence without a full stop: what is wrong and where to look.
    pub(super) fn text(&self, settings: &SessionSettings) -> String {
        let SessionSettings { host, port, client_id, .. } = settings;
        match self {
            Self::Files(error) => error.to_string(),
            Self::Io(error) => io_text(error, settings),
            Self::TimedOut => format!("no answer from {host}:{port}"),
            Self::Refused(refusal) => refusal_text(refusal, settings),
            Self::NoQos1 => "the broker takes QoS 0 only, which acknowledges nothing: QoS 1 is needed".to_owned(),
            // Many brokers do not say so when a second client with the same id pushes the first one out.
            Self::Closed => {
                format!(
                    "{host}:{port} closed the connection; if it does so again, is client id {client_id:?} used twice?"
                )
            }
            Self::NotMqtt => {
                format!("{host}:{port} answers, but not as this version of MQTT does: check port and protocol")
            }
            Self::ClosedUnanswered => {
                format!("{host}:{port} closed the connection without an answer: check port, TLS and MQTT version")
            }
            Self::Disconnected { reason: SESSION_TAKEN_OVER, .. } => {
                format!("another client connected with the client id {client_id:?}: it must be unique at the broker")
            }
            Self::Disconnected { reason, text } => {
                format!("the broker ended the connection: {text} (reason 0x{reason:02X})")
            }
            Self::UnreadableRefusal { reason, text } => {
                format!("the broker refuses a message: {text} (0x{reason:02X}); connecting anew")
            }
            Self::Moved { is_for_good, to } => {
                let server = to.as_ref().map_or_else(|| "another one".to_owned(), |server| format!("{server:?}"));
                match is_for_good {
                    true => format!("the broker {host}:{port} has moved to {server}: change mqtt.url"),
                    false => format!(
                        "the broker {host}:{port} sends us to {server} for now: set mqtt.url to it if that lasts"
                    ),
                }
            }
            Self::Silent => format!("{host}:{port} stopped answering"),
            Self::Stalled => "the broker acknowledges nothing although data waits".to_owned(),
            Self::Protocol(error) => format!("{host}:{port} sent something that is not understood: {error}"),
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

fn rustls_error(error: &io::Error) -> Option<&RustlsError> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>())
}

fn io_text(error: &io::Error, settings: &SessionSettings) -> String {
    let SessionSettings { host, port, .. } = settings;
    if let Some(tls) = rustls_error(error) {
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
        // A bad signature is what a CA of the same name with another key looks like.
        RustlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            match ca_file {
                Some(file) => format!("the broker's certificate is not signed by a CA in {}", file.display()),
                None => {
                    "the broker's certificate is not signed by a CA that this system trusts: give a CA file".to_owned()
                }
            }
        }
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
    if let (AlertDescription::CertificateExpired, Some(file)) = (alert, shown) {
        let file = file.display();
        return format!(
            "the broker says that the client certificate in {file} has expired: renew it, or set the clocks"
        );
    }
    match (about_our_certificate, shown) {
        (true, Some(file)) => format!("the broker refuses the client certificate in {}: {alert:?}", file.display()),
        (true, None) => format!("the broker wants a client certificate: {alert:?}"),
        (false, _) => format!("the broker ended the TLS handshake: {alert:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use tokio_util::bytes::Bytes;

    use super::*;
    use crate::mqtt::{Message, Protocol, TlsSettings};

    fn settings() -> SessionSettings {
        SessionSettings {
            host: "broker.example".to_owned(),
            port: 8883,
            tls: Some(TlsSettings { ca_file: None, cert_file: Some(PathBuf::from("gw.pem")), key_file: None }),
            protocol: Protocol::V5,
            client_id: "gw-01".to_owned(),
            username: Some("plant".to_owned()),
            password_file: None,
            keep_alive: Duration::from_secs(30),
            will: Message {
                topic: "state".to_owned(),
                payload: Bytes::new(),
                retain: true,
                content_type: None,
                expiry: None,
                correlation_data: None,
            },
            probe_topic: "probe".to_owned(),
            batch_topic: "batch".to_owned(),
            proven_topics: Vec::new(),
            in_flight: 8,
            max_packet: 1000,
            patience: Duration::from_secs(30),
        }
    }

    fn tls(error: RustlsError) -> Failure {
        Failure::Io(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn every_failure_says_where_to_look() {
        let certificate = |error| tls(RustlsError::InvalidCertificate(error));
        for (failure, part) in [
            (Failure::Io(io::ErrorKind::ConnectionRefused.into()), "broker.example:8883 refuses"),
            (Failure::TimedOut, "no answer from broker.example:8883"),
            (Failure::Refused(Refusal::BadCredentials), "user \"plant\""),
            (Failure::Refused(Refusal::ClientId), "client id \"gw-01\""),
            (Failure::Refused(Refusal::Qos), "QoS 1 is needed"),
            (Failure::Disconnected { reason: 0x8E, text: String::new() }, "must be unique"),
            (Failure::Moved { is_for_good: true, to: None }.naming(Some("b:1".to_owned())), "has moved to \"b:1\""),
            (tls(RustlsError::AlertReceived(AlertDescription::CertificateExpired)), "gw.pem has expired: renew it"),
            (Failure::Disconnected { reason: 0x8B, text: "ServerShuttingDown".to_owned() }, "ServerShuttingDown"),
            (Failure::Protocol(String::new()).unanswered(), "check port and protocol"),
            (certificate(CertificateError::UnknownIssuer), "give a CA file"),
            (certificate(CertificateError::Expired), "the clock here is wrong"),
            (certificate(CertificateError::NotValidYet), "the clock here is wrong"),
            (certificate(CertificateError::NotValidForName), "not for the host \"broker.example\""),
            (tls(RustlsError::AlertReceived(AlertDescription::UnknownCA)), "client certificate in gw.pem"),
        ] {
            let text = failure.text(&settings());
            assert!(text.contains(part), "{failure:?}: {text}");
        }
    }
}
