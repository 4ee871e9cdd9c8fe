//! Who may connect and publish: TLS, passwords, access rules, against a real Mosquitto.

#![cfg(test)]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use lineside::clock::SystemClock;
use lineside::mqtt::{Bytes, Delivery, Protocol, Session, SessionSettings, TlsSettings};
use support::broker::{Broker, Setup};
use support::certificates::Certificates;
use support::gateway::{BATCH, Gateway, PROBE, STATE, message, settings};
use tokio::sync::watch;

fn with_tls(protocol: Protocol, broker: &Broker, tls: TlsSettings) -> SessionSettings {
    SessionSettings { host: "localhost".to_owned(), tls: Some(tls), ..settings(protocol, broker.tls_port()) }
}

fn client_tls(certificates: &Certificates) -> TlsSettings {
    let (certificate, key) = certificates.client();
    TlsSettings { ca_file: Some(certificates.ca()), cert_file: Some(certificate), key_file: Some(key) }
}

async fn tls_broker(certificates: &Certificates) -> Broker {
    Broker::with(Setup { certificates: Some(certificates), ..Setup::default() }).await
}

fn password_file(password: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("password");
    std::fs::write(&file, format!("{password}\n")).expect("a file in it");
    (directory, file)
}

#[tokio::test]
async fn a_gateway_with_a_client_certificate_delivers_over_tls() {
    let certificates = Certificates::from("plant authority");
    let broker = tls_broker(&certificates).await;
    let mut subscriber = broker.subscribe(BATCH).await;
    for protocol in [Protocol::V5, Protocol::V311] {
        let gateway = Gateway::start(with_tls(protocol, &broker, client_tls(&certificates)));
        gateway.connected().await;

        assert_eq!(gateway.publish(message(BATCH, "readings")).await, Delivery::Acknowledged, "{protocol:?}");

        assert_eq!(subscriber.next().await.payload, "readings");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_broker_signed_by_another_authority_is_refused_with_the_name_of_our_ca_file() {
    let ours = Certificates::from("plant authority");
    for stranger in ["another authority", "plant authority"] {
        let strangers = Certificates::from(stranger);
        let broker = tls_broker(&strangers).await;
        let gateway = Gateway::start(with_tls(Protocol::V5, &broker, client_tls(&ours)));

        let text = gateway.failure().await;

        let expected = format!("the broker's certificate is not signed by a CA in {}", ours.ca().display());
        assert_eq!(text, expected, "{stranger}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    let certificates = Certificates::from("plant authority");
    let broker = tls_broker(&certificates).await;
    let settings = with_tls(Protocol::V5, &broker, client_tls(&certificates));
    let gateway = Gateway::start(SessionSettings { host: "127.0.0.1".to_owned(), ..settings });

    assert_eq!(gateway.failure().await, "the broker's certificate is not for the host \"127.0.0.1\"");
}

#[tokio::test]
async fn a_broker_that_wants_a_client_certificate_is_understood() {
    let certificates = Certificates::from("plant authority");
    let broker = tls_broker(&certificates).await;
    let tls = TlsSettings { ca_file: Some(certificates.ca()), cert_file: None, key_file: None };
    for protocol in [Protocol::V5, Protocol::V311] {
        let gateway = Gateway::start(with_tls(protocol, &broker, tls.clone()));

        let text = gateway.failure().await;

        assert!(text.contains("wants a client certificate"), "{protocol:?}: {text}");
    }
}

#[tokio::test]
async fn a_port_without_tls_is_told_from_a_bad_certificate() {
    let certificates = Certificates::from("plant authority");
    let broker = tls_broker(&certificates).await;
    let settings = with_tls(Protocol::V5, &broker, client_tls(&certificates));
    let gateway = Gateway::start(SessionSettings { port: broker.port(), ..settings });

    let text = gateway.failure().await;

    assert!(text.contains("without an answer: check port, TLS and MQTT version"), "{text}");
}

#[tokio::test]
async fn user_and_password_open_the_broker() {
    let users = &[("gw-01", "secret")];
    let broker = Broker::with(Setup { users, ..Setup::default() }).await;
    let (_directory, file) = password_file("secret");
    for protocol in [Protocol::V5, Protocol::V311] {
        let settings = SessionSettings {
            username: Some("gw-01".to_owned()),
            password_file: Some(file.clone()),
            ..settings(protocol, broker.port())
        };
        let gateway = Gateway::start(settings);

        gateway.connected().await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_password_that_is_corrected_in_its_file_needs_no_restart() {
    let users = &[("gw-01", "secret")];
    let broker = Broker::with(Setup { users, ..Setup::default() }).await;
    let (_directory, file) = password_file("wrong");
    let gateway = Gateway::start(SessionSettings {
        username: Some("gw-01".to_owned()),
        password_file: Some(file.clone()),
        ..settings(Protocol::V5, broker.port())
    });
    let text = gateway.failure().await;
    assert!(text.contains("does not authorise user \"gw-01\", or the password is wrong"), "{text}");

    std::fs::write(&file, "secret\n").unwrap();

    gateway.connected().await;
}

#[tokio::test]
async fn an_access_rule_that_forbids_a_topic_is_a_refusal_in_mqtt_5() {
    let access = format!("topic readwrite {STATE}");
    let broker = Broker::with(Setup { access: Some(&access), ..Setup::default() }).await;
    let gateway = Gateway::start(settings(Protocol::V5, broker.port()));
    gateway.connected().await;

    let delivery = gateway.publish(message(BATCH, "readings")).await;

    assert!(matches!(delivery, Delivery::Refused { reason: 0x87, .. }), "{delivery:?}");
    let status = gateway.handle.status().borrow().clone();
    assert_eq!(status.refused.get(&0x87), Some(&1));
    assert!(status.last_refusal.unwrap().starts_with(BATCH));
}

#[tokio::test]
async fn an_access_rule_that_discards_silently_is_noticed_in_mqtt_3_1_1() {
    let access = format!("topic readwrite {STATE}\ntopic read {PROBE}");
    let broker = Broker::with(Setup { access: Some(&access), ..Setup::default() }).await;
    let gateway = Gateway::start(settings(Protocol::V311, broker.port()));
    gateway.connected().await;

    let delivery = gateway.publish(message(BATCH, "readings")).await;

    let Delivery::Unproven { text, .. } = delivery else { panic!("{delivery:?}: this protocol cannot tell") };
    assert!(text.contains(BATCH), "{text}");
    let text = gateway.warning().await;
    assert!(text.contains("an access rule may discard messages silently"), "{text}");
}

#[tokio::test]
async fn an_owner_who_trusts_the_acknowledgement_of_mqtt_3_1_1_gets_it_and_the_warning() {
    let access = format!("topic readwrite {STATE}\ntopic read {PROBE}");
    let broker = Broker::with(Setup { access: Some(&access), ..Setup::default() }).await;
    let trusting = SessionSettings { proven_topics: Vec::new(), ..settings(Protocol::V311, broker.port()) };
    let gateway = Gateway::start(trusting);
    gateway.connected().await;

    assert_eq!(gateway.publish(message(BATCH, "readings")).await, Delivery::Acknowledged);

    let text = gateway.warning().await;
    assert!(text.contains("an access rule may discard messages silently"), "{text}");
}

#[tokio::test]
async fn a_broker_that_passes_messages_on_returns_the_probe_in_mqtt_3_1_1() {
    let broker = Broker::start().await;
    let gateway = Gateway::start(settings(Protocol::V311, broker.port()));

    gateway.counted("the probe to come back", |status| status.probes_returned == 1).await;

    assert_eq!(gateway.connected().await.warning, None);
}

#[tokio::test]
async fn a_missing_password_file_is_named_before_anything_starts() {
    let settings =
        SessionSettings { password_file: Some(PathBuf::from("/nowhere/password")), ..settings(Protocol::V5, 1883) };
    let (_sender, online) = watch::channel(Bytes::new());

    let Err(error) = Session::new(settings, online, None, Arc::new(SystemClock::new(true))) else {
        panic!("a session without its password");
    };

    assert!(error.to_string().starts_with("password file /nowhere/password: No such file"), "{error}");
}
