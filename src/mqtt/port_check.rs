//! What stands behind a port that does not answer as a broker does. One more connection asks, so that people read "a web
//! server" or "wants TLS" and not "closed without an answer". Blocking, within [`LONGEST`]: a thread of its own does it.
//!
//! No password and no name of ours is sent, except to a broker that names another server: it is asked as before.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::settings::{Protocol, SessionSettings};
use super::{tls, v5};

/// All of it.
const LONGEST: Duration = Duration::from_secs(8);

/// How long a server may take to speak first, as those of mail and remote login do.
const GREETING: Duration = Duration::from_millis(700);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Bytes that are enough to know it.
const BYTES_MAX: u64 = 512;

/// Most characters shown of what it says.
const SHOWN_MAX: usize = 60;

/// CONNECT with a client id of its own, a clean session, nothing else (MQTT 3.1.1, 3.1).
const CONNECT: &[u8] = b"\x10\x19\0\x04MQTT\x04\x02\0\x0a\0\x0dlineside-look";

/// The first bytes of a CONNACK (MQTT 3.1.1, 3.2.1; MQTT 5, 3.2.1).
const CONNACK: u8 = 0x20;

/// Content types of a TLS record: alert and handshake, and the major version behind them (RFC 8446, 5.1).
const TLS_ALERT: u8 = 0x15;
const TLS_HANDSHAKE: u8 = 0x16;
const TLS_MAJOR: u8 = 3;

/// What stands there, in one sentence without a full stop; `None` where that does not show.
pub(super) fn look(settings: &SessionSettings) -> Option<String> {
    let port = Port { settings, until: Instant::now() + LONGEST };
    let SessionSettings { host, port: number, .. } = settings;
    let greeting = port.ask(&[], GREETING);
    let plain = if greeting.is_empty() { port.ask(CONNECT, ANSWER) } else { greeting };
    let has_tls = settings.tls.is_some();
    if let Some(text) = spoken(&plain) {
        return Some(format!("{host}:{number} is {text}, not an MQTT broker: check host and port"));
    }
    match plain.first() {
        Some(&CONNACK) if has_tls => {
            return Some(format!(
                "{host}:{number} speaks MQTT without TLS: use mqtt://, or the port of the broker with TLS"
            ));
        }
        Some(&CONNACK) if settings.protocol == Protocol::V5 && plain.get(3) == Some(&0) => {
            return Some(format!("{host}:{number} speaks MQTT 3.1.1 and not MQTT 5: set protocol = \"3.1.1\""));
        }
        Some(_) | None => {}
    }
    if has_tls {
        let answer = port.ask_with_tls(CONNECT)?;
        return spoken(&answer)
            .map(|text| format!("{host}:{number} is {text} with TLS, not an MQTT broker: check host and port"));
    }
    let answer = if is_tls(&plain) { plain } else { port.ask(&client_hello(), ANSWER) };
    if is_tls(&answer) {
        return Some(format!("{host}:{number} wants TLS: use mqtts:// and, where its authority is your own, ca_file"));
    }
    let answer = port.ask(b"GET / HTTP/1.0\r\n\r\n", ANSWER);
    spoken(&answer).map(|text| format!("{host}:{number} is {text}, not an MQTT broker: check host and port"))
}

/// The server that a broker names in its place, when it is asked again as before (MQTT 5, 3.2.2.3.16).
pub(super) fn named_server(settings: &SessionSettings) -> Option<String> {
    let port = Port { settings, until: Instant::now() + LONGEST };
    let request = v5::connect_bytes(settings, settings.password().ok()?);
    let answer = match settings.tls {
        Some(_) => port.ask_with_tls(&request)?,
        None => port.ask(&request, ANSWER),
    };
    v5::server_reference(&answer)
}

struct Port<'a> {
    settings: &'a SessionSettings,
    until: Instant,
}

impl Port<'_> {
    /// The first bytes that come after `request` on a new connection; none where none come.
    fn ask(&self, request: &[u8], wait: Duration) -> Vec<u8> {
        self.connect(wait).map(|stream| exchange(stream, request)).unwrap_or_default()
    }

    fn ask_with_tls(&self, request: &[u8]) -> Option<Vec<u8>> {
        let config = tls::client_config(self.settings.tls.as_ref()?).ok()?;
        let name = ServerName::try_from(self.settings.host.clone()).ok()?;
        let connection = ClientConnection::new(config, name).ok()?;
        Some(exchange(StreamOwned::new(connection, self.connect(ANSWER)?), request))
    }

    fn connect(&self, wait: Duration) -> Option<TcpStream> {
        let left = self.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let address = (self.settings.host.as_str(), self.settings.port).to_socket_addrs().ok()?.next()?;
        let stream = TcpStream::connect_timeout(&address, left.min(ANSWER)).ok()?;
        stream.set_read_timeout(Some(left.min(wait))).ok()?;
        stream.set_write_timeout(Some(left.min(wait))).ok()?;
        Some(stream)
    }
}

/// Sends, and takes the first bytes that come. What fails on the way ends it.
fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    if stream.write_all(request).and_then(|()| stream.flush()).is_ok() {
        let mut bytes = [0; BYTES_MAX as usize];
        // One read: a server that waits for more of us must not hold us up.
        let count = stream.read(&mut bytes).unwrap_or(0);
        answer.extend_from_slice(&bytes[..count]);
    }
    answer
}

/// A ClientHello, by which a port shows that it speaks TLS.
fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.map(|builder| builder.with_root_certificates(rustls::RootCertStore::empty()));
    let connection = config
        .ok()
        .zip(ServerName::try_from("localhost").ok())
        .and_then(|(config, name)| ClientConnection::new(Arc::new(config.with_no_client_auth()), name).ok());
    let mut bytes = Vec::new();
    if let Some(mut connection) = connection {
        // Into memory: it cannot fail.
        _ = connection.write_tls(&mut bytes);
    }
    bytes
}

fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [TLS_ALERT | TLS_HANDSHAKE, TLS_MAJOR, ..])
}

/// A server that speaks in text, by its first words.
fn spoken(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let is_text = line.len() >= 3 && line.iter().all(|byte| (b' '..=b'~').contains(byte));
    let text = std::str::from_utf8(line).ok().filter(|_| is_text)?;
    let said: String = text.chars().take(SHOWN_MAX).collect();
    Some(match text {
        web if web.starts_with("HTTP/") => format!("a web server ({said:?})"),
        shell if shell.starts_with("SSH-") => format!("an SSH server ({said:?})"),
        _ => format!("a server that says {said:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_their_first_words() {
        for (bytes, expected) in [
            (&b"HTTP/1.1 400 Bad Request\r\nServer: nginx"[..], Some("a web server (\"HTTP/1.1 400 Bad Request\")")),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", Some("an SSH server (\"SSH-2.0-OpenSSH_9.2p1\")")),
            (b"220 mail ready\r\n", Some("a server that says \"220 mail ready\"")),
            (b"\x20\x02\0\0", None),
            (b"\x15\x03\x03\0\x02\x02\x46", None),
            (b"", None),
        ] {
            assert_eq!(spoken(bytes).as_deref(), expected, "{bytes:?}");
        }
        assert!(is_tls(b"\x15\x03\x01\0\x02") && is_tls(&[TLS_HANDSHAKE, 3, 3]) && !is_tls(b"\x20\x02\0\0"));
        assert_eq!(CONNECT.len(), usize::from(CONNECT[1]) + 2);
        assert_eq!(client_hello()[0], TLS_HANDSHAKE);
    }
}
