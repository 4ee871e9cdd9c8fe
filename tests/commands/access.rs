//! The access rules that ship: a gateway can only be itself.

use lineside::model::Name;
use lineside::mqtt::{Delivery, Protocol, SessionSettings, TlsSettings, Topics, Visitor};
use lineside::mqtt::{Message, VisitError};
use std::time::Duration;

use super::secured;
use super::support::broker::Broker;
use super::support::certificates::Certificates;
use super::support::gateway::{Gateway, message, settings};
use super::support::within;

const A: &str = "lineside/v1/lyon/gw-a";
const B: &str = "lineside/v1/lyon/gw-b";

async fn connect(
    broker: &Broker,
    certificates: &Certificates,
    name: &str,
    filters: &[String],
) -> Result<Visitor, VisitError> {
    let (certificate, key) = certificates.issue(name);
    let tls = TlsSettings { ca_file: Some(certificates.ca()), cert_file: Some(certificate), key_file: Some(key) };
    let client_id = format!("{}-{:08x}", name.replace('/', "-"), fastrand::u32(..));
    let settings = SessionSettings {
        host: "localhost".to_owned(),
        tls: Some(tls),
        client_id,
        ..settings(Protocol::V5, broker.tls_port())
    };
    within("a connection", Visitor::connect(settings, filters)).await
}

async fn publish(visitor: &mut Visitor, message: Message) -> Delivery {
    within("an answer", visitor.publish(message)).await.unwrap()
}

#[tokio::test]
async fn a_gateway_can_neither_read_commands_of_another_nor_publish_as_it() {
    let certificates = Certificates::from("plant authority");
    let broker = secured(&certificates).await;
    let own = [format!("{A}/cmd/+"), format!("{A}/config/desired")];
    let mut a = connect(&broker, &certificates, "lyon/gw-a", &own).await.unwrap();

    // Everything that a gateway says, as itself and as another.
    let said = ["state", "batch", "alarm", "catalogue/0", "health", "problems", "event/x", "ack/7", "reply/7"];
    for level in said.into_iter().chain(["config/reported", "probe"]) {
        assert!(publish(&mut a, message(&format!("{A}/{level}"), "own")).await.is_delivered(), "{level}");
        let forged = publish(&mut a, message(&format!("{B}/{level}"), "forged")).await;
        assert!(matches!(forged, Delivery::Refused { reason: 0x87, .. }), "{level}: {forged}");
    }
    // Nor may it command anybody, itself included.
    for topic in [format!("{A}/cmd/7"), format!("{B}/cmd/7"), format!("{B}/config/desired")] {
        assert!(matches!(publish(&mut a, message(&topic, "{}")).await, Delivery::Refused { .. }), "{topic}");
    }

    // Mosquitto grants any subscription and then hands out nothing: what counts is what arrives.
    let wide = ["lineside/v1/+/+/cmd/+", "lineside/v1/#", "#"].map(str::to_owned);
    let mut spies = Vec::new();
    for filter in wide.iter().chain([&format!("{B}/cmd/+"), &format!("{B}/config/desired")]) {
        spies.extend(connect(&broker, &certificates, "lyon/gw-a", std::slice::from_ref(filter)).await);
    }
    let mut operator = connect(&broker, &certificates, "operator", &[]).await.unwrap();
    for topic in [format!("{B}/cmd/7"), format!("{B}/config/desired"), format!("{A}/cmd/7")] {
        assert!(publish(&mut operator, message(&topic, "secret")).await.is_delivered(), "{topic}");
    }
    assert_eq!(within("its own command", a.next()).await.unwrap().topic, format!("{A}/cmd/7"));
    for mut spy in spies {
        // What the broker has for it comes before its answer to what it publishes itself.
        assert!(publish(&mut spy, message(&format!("{A}/probe"), "own")).await.is_delivered());
        while let Ok(received) = tokio::time::timeout(Duration::ZERO, spy.next()).await {
            let topic = received.unwrap().topic;
            assert!(topic.starts_with(A), "gateway A received {topic}");
        }
    }

    // And one who only receives cannot command.
    let mut historian = connect(&broker, &certificates, "historian", &[]).await.unwrap();
    let refused = publish(&mut historian, message(&format!("{A}/cmd/8"), "{}")).await;
    assert!(matches!(refused, Delivery::Refused { .. }), "{refused}");
}

/// MQTT 3.1.1 acknowledges what it discards: the rules let a gateway read what it says, so that it can tell.
#[tokio::test]
async fn under_the_shipped_rules_a_gateway_with_mqtt_3_1_1_sees_its_own_messages_come_back() {
    let certificates = Certificates::from("plant authority");
    let broker = secured(&certificates).await;
    let (certificate, key) = certificates.issue("lyon/gw-01");
    let tls = TlsSettings { ca_file: Some(certificates.ca()), cert_file: Some(certificate), key_file: Some(key) };
    let base = "lineside/v1/lyon/gw-01";
    let own = Topics::new("lineside/v1", &Name::new("lyon").unwrap(), &Name::new("gw-01").unwrap()).unwrap();
    let gateway = Gateway::start(SessionSettings {
        host: "localhost".to_owned(),
        tls: Some(tls),
        proven_topics: own.proven().to_vec(),
        ..settings(Protocol::V311, broker.tls_port())
    });
    gateway.connected().await;

    for level in ["batch", "alarm", "catalogue/0123abcd-1"] {
        let delivery = gateway.publish(message(&format!("{base}/{level}"), "own")).await;
        assert_eq!(delivery, Delivery::Acknowledged, "{level}");
    }
    assert_eq!(gateway.handle.status().borrow().proven, 3);
}
