//! Connections that cannot be: each is explained in one sentence that names the cause.

#![cfg(test)]

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use lineside::mqtt::{Protocol, SessionSettings, SessionState, TlsSettings};
use support::broker::{Broker, Setup};
use support::certificates::Certificates;
use support::gateway::{Gateway, settings};
use support::raw_broker::{Behaviour, RawBroker};
use support::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Waits until a failure is explained with `part`.
async fn explained(gateway: &Gateway, part: &str) {
    let mut state = gateway.handle.state();
    let says = |state: &SessionState| match state {
        SessionState::Connecting { last_error: Some(text), .. } => text.contains(part),
        SessionState::Connecting { .. } | SessionState::Connected(_) => false,
    };
    within(format!("an explanation with {part:?}"), state.wait_for(says)).await.expect("the session runs");
}

/// A server that says `greeting` at once, and `answer` to whatever comes.
async fn text_server(greeting: &'static str, answer: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(greeting.as_bytes()).await?;
                let mut request = [0; 512];
                while stream.read(&mut request).await? > 0 {
                    stream.write_all(answer.as_bytes()).await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    port
}

#[tokio::test]
async fn a_port_that_speaks_no_mqtt_is_called_by_its_name() {
    let web = text_server("", "HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let shell = text_server("SSH-2.0-OpenSSH_9.2p1\r\n", "").await;
    // All at once: a server that waits for more of us shows only after the time limit for connecting.
    let servers = [(web, "is a web server"), (shell, "is an SSH server")];
    let gateways = [Protocol::V5, Protocol::V311]
        .map(|protocol| servers.map(|(port, part)| (Gateway::start(settings(protocol, port)), part)));
    for (gateway, part) in gateways.iter().flatten() {
        explained(gateway, part).await;
    }
}

#[tokio::test]
async fn tls_on_one_side_only_is_said() {
    let certificates = Certificates::from("plant authority");
    let broker = Broker::with(Setup { certificates: Some(&certificates), ..Setup::default() }).await;
    let tls = TlsSettings { ca_file: Some(certificates.ca()), cert_file: None, key_file: None };

    explained(&Gateway::start(settings(Protocol::V5, broker.tls_port())), "wants TLS: use mqtts://").await;
    let on_plain =
        SessionSettings { host: "localhost".to_owned(), tls: Some(tls), ..settings(Protocol::V311, broker.port()) };
    explained(&Gateway::start(on_plain), "speaks MQTT without TLS").await;
}

/// MQTT 5, 4.13: the server stands in the CONNACK or in the DISCONNECT.
#[tokio::test]
async fn a_broker_that_names_another_server_is_passed_on() {
    const SERVER: &[u8] = b"\x1c\0\x12other.example:1883";
    let properties = [&[u8::try_from(SERVER.len()).unwrap()], SERVER].concat();
    let packet = |first: u8, head: &[u8]| {
        let body = [head, &properties].concat();
        [&[first, u8::try_from(body.len()).unwrap()], &body[..]].concat()
    };
    for (reason, part) in [(0x9C, "sends us to \"other.example:1883\""), (0x9D, "has moved to \"other.example:1883\"")]
    {
        let refusing = Behaviour { is_v5: true, connack: Some(packet(0x20, &[0, reason])), ..Behaviour::default() };
        let leaving = Behaviour { is_v5: true, after_connack: packet(0xE0, &[reason]), ..Behaviour::default() };
        for behaviour in [refusing, leaving] {
            let broker = RawBroker::start(behaviour).await;
            explained(&Gateway::start(settings(Protocol::V5, broker.port())), part).await;
        }
    }
}

/// CONNACK without session and properties (MQTT 5.0, 3.2).
const CONNACK: [u8; 5] = [0x20, 0x03, 0x00, 0x00, 0x00];

/// PUBLISH with QoS 0, no topic, and the topic alias 0x1234, which was never explained (MQTT 5.0, 3.3.2.3.4).
const UNKNOWN_ALIAS: [u8; 9] = [0x30, 0x07, 0x00, 0x00, 0x03, 0x23, 0x12, 0x34, b'x'];

#[tokio::test]
async fn a_broker_that_breaks_the_protocol_is_left_and_connected_to_anew() {
    // Given a broker whose first connection gets a topic alias that it was never told.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let broker = tokio::spawn(async move {
        let mut connections = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut connect = [0; 1024];
            // Whoever only looks whether the port speaks MQTT says nothing, or goes at once.
            let said = tokio::time::timeout(Duration::from_secs(2), socket.read(&mut connect)).await;
            if !said.is_ok_and(|read| read.is_ok_and(|length| length > 0)) {
                continue;
            }
            socket.write_all(&CONNACK).await.unwrap();
            if connections.is_empty() {
                socket.write_all(&UNKNOWN_ALIAS).await.unwrap();
            }
            connections.push(socket);
        }
    });
    let gateway = Gateway::start(settings(Protocol::V5, port));

    // Then that connection is given up, and the next one stands.
    gateway.counted("a second connection", |status| status.connects > 1).await;
    gateway.stop().await;
    broker.abort();
}

#[tokio::test]
async fn a_client_certificate_that_is_out_of_its_time_is_named_with_its_end() {
    let certificates = Certificates::from("plant authority");
    let broker = Broker::with(Setup { certificates: Some(&certificates), ..Setup::default() }).await;
    for (from, to, part) in [
        ("20200101000000Z", "20210101000000Z", "expired on 2021-01-01T00:00:00.000Z"),
        ("20500101000000Z", "20510101000000Z", "is not valid before 2050-01-01T00:00:00.000Z"),
    ] {
        let (certificate, key) = certificates.issue_for(&format!("gw-{from}"), from, to);
        for protocol in [Protocol::V5, Protocol::V311] {
            let tls = TlsSettings {
                ca_file: Some(certificates.ca()),
                cert_file: Some(certificate.clone()),
                key_file: Some(key.clone()),
            };
            let settings = SessionSettings {
                host: "localhost".to_owned(),
                tls: Some(tls),
                ..settings(protocol, broker.tls_port())
            };
            explained(&Gateway::start(settings), part).await;
        }
    }
}
