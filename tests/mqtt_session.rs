//! The session against a real Mosquitto: delivery, loss, limits, goodbye.

#![cfg(test)]

mod support;

use std::time::Duration;

use lineside::mqtt::{Bytes, Delivery, Inbox, Message, Protocol, SessionSettings, SessionState};
use support::broker::{Broker, Setup};
use support::gateway::{BATCH, Gateway, STATE, message, settings};
use support::proxy::Proxy;
use support::within;
use tokio::sync::mpsc;

#[tokio::test]
async fn a_batch_is_delivered_when_the_broker_acknowledges_it() {
    for protocol in [Protocol::V5, Protocol::V311] {
        let broker = Broker::start().await;
        let mut subscriber = broker.subscribe(BATCH).await;
        let gateway = Gateway::start(settings(protocol, broker.port()));
        gateway.connected().await;

        let delivery = gateway.publish(message(BATCH, "readings")).await;

        assert_eq!(delivery, Delivery::Acknowledged, "{protocol:?}");
        assert_eq!(subscriber.next().await.payload, "readings");
    }
}

#[tokio::test]
async fn a_batch_larger_than_every_buffer_on_the_way_arrives_whole() {
    for protocol in [Protocol::V5, Protocol::V311] {
        let broker = Broker::start().await;
        let mut subscriber = broker.subscribe(BATCH).await;
        let gateway = Gateway::start(settings(protocol, broker.port()));
        gateway.connected().await;
        let payload = "0123456789".repeat(20_000);

        assert_eq!(gateway.publish(message(BATCH, &payload)).await, Delivery::Acknowledged, "{protocol:?}");

        assert_eq!(subscriber.next().await.payload, payload);
    }
}

#[tokio::test]
async fn content_type_and_expiry_travel_with_a_batch_in_mqtt_5() {
    let broker = Broker::start().await;
    let mut subscriber = broker.subscribe(BATCH).await;
    let gateway = Gateway::start(settings(Protocol::V5, broker.port()));
    gateway.connected().await;

    let batch = Message { expiry: Some(Duration::from_secs(3600)), ..message(BATCH, "readings") };
    assert_eq!(gateway.publish(batch).await, Delivery::Acknowledged);

    let seen = subscriber.next().await;
    assert_eq!(seen.content_type, "text/plain");
    assert!((3590..=3600).contains(&seen.expiry.parse().unwrap()), "{seen:?}");
}

#[tokio::test]
async fn a_batch_that_nobody_subscribes_to_counts_as_delivered() {
    let broker = Broker::start().await;
    let gateway = Gateway::start(settings(Protocol::V5, broker.port()));
    gateway.connected().await;

    let delivery = gateway.publish(message(BATCH, "readings")).await;

    assert_eq!(delivery, Delivery::NoSubscribers);
    assert!(delivery.is_delivered());
}

#[tokio::test]
async fn without_a_connection_a_publish_is_answered_at_once() {
    let mut broker = Broker::start().await;
    let gateway = Gateway::start(settings(Protocol::V5, broker.port()));
    gateway.connected().await;
    broker.kill();
    gateway.failure().await;

    let delivery = gateway.publish(message(BATCH, "readings")).await;

    assert_eq!(delivery, Delivery::SessionLost);
}

#[tokio::test]
async fn a_broker_killed_before_its_answer_loses_the_session_and_nothing_is_replayed() {
    for protocol in [Protocol::V5, Protocol::V311] {
        let mut broker = Broker::start().await;
        let proxy = Proxy::to(broker.port()).await;
        let gateway = Gateway::start(settings(protocol, proxy.port()));
        let first = gateway.connected().await;
        gateway.counted("the state to be acknowledged", |s| s.acknowledged + s.no_subscribers > 0).await;
        proxy.stall();
        let unanswered = tokio::spawn({
            let handle = gateway.handle.clone();
            async move { handle.publish(message(BATCH, "lost")).await }
        });
        gateway.counted("the batch to be sent", |s| s.payload_bytes >= "onlinelost".len() as u64).await;

        broker.kill();
        proxy.cut();
        assert_eq!(within("an answer", unanswered).await.unwrap(), Delivery::SessionLost, "{protocol:?}");
        broker.restart().await;
        let mut subscriber = broker.subscribe(BATCH).await;
        proxy.pass();
        gateway.connected_after(first.generation).await;
        assert_eq!(gateway.publish(message(BATCH, "again")).await, Delivery::Acknowledged);

        assert_eq!(subscriber.next().await.payload, "again");
    }
}

#[tokio::test]
async fn a_connection_that_acknowledges_nothing_is_given_up() {
    let broker = Broker::start().await;
    let proxy = Proxy::to(broker.port()).await;
    let patience = Duration::from_secs(1);
    let gateway = Gateway::start(SessionSettings { patience, ..settings(Protocol::V5, proxy.port()) });
    gateway.connected().await;
    gateway.counted("the state to be acknowledged", |s| s.acknowledged + s.no_subscribers > 0).await;
    proxy.stall();

    let delivery = gateway.publish(message(BATCH, "readings")).await;

    assert_eq!(delivery, Delivery::SessionLost);
    gateway.counted("the connection to be given up", |s| s.rebuilt == 1).await;
    assert!(gateway.failure().await.contains("acknowledges nothing"));
    proxy.pass();
    gateway.connected_after(1).await;
}

#[tokio::test]
async fn a_packet_larger_than_the_broker_takes_is_never_sent() {
    let broker = Broker::with(Setup { lines: &["max_packet_size 1000"], ..Setup::default() }).await;
    let gateway = Gateway::start(settings(Protocol::V5, broker.port()));
    let connected = gateway.connected().await;
    let header = 1 + 2 + 2 + BATCH.len() + 2 + 1 + (3 + "text/plain".len());

    let fits = gateway.publish(message(BATCH, &"x".repeat(1000 - header))).await;
    let too_large = gateway.publish(message(BATCH, &"x".repeat(1001 - header))).await;

    assert_eq!(connected.limits.max_packet, 1000);
    assert!(fits.is_delivered(), "{fits:?}");
    assert_eq!(too_large, Delivery::TooLarge { limit: 1000 });
    assert_eq!(gateway.connected().await.generation, 1, "the connection survived");
}

#[tokio::test]
async fn a_packet_larger_than_configured_is_never_sent() {
    let broker = Broker::start().await;
    for protocol in [Protocol::V5, Protocol::V311] {
        let settings = SessionSettings { max_packet: 500, ..settings(protocol, broker.port()) };
        let gateway = Gateway::start(settings);
        gateway.connected().await;

        let delivery = gateway.publish(message(BATCH, &"x".repeat(500))).await;

        assert_eq!(delivery, Delivery::TooLarge { limit: 500 }, "{protocol:?}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn many_publishers_share_the_window_the_broker_grants() {
    let broker = Broker::with(Setup { lines: &["max_inflight_messages 2"], ..Setup::default() }).await;
    let mut subscriber = broker.subscribe(BATCH).await;
    let gateway = Gateway::start(settings(Protocol::V5, broker.port()));
    assert_eq!(gateway.connected().await.limits.in_flight, 2);

    let publishes: Vec<_> = (0..100)
        .map(|number| {
            let handle = gateway.handle.clone();
            tokio::spawn(async move { handle.publish(message(BATCH, &number.to_string())).await })
        })
        .collect();
    for publish in publishes {
        assert_eq!(within("an answer", publish).await.unwrap(), Delivery::Acknowledged);
    }

    let mut seen = Vec::new();
    for _ in 0..100 {
        seen.push(subscriber.next().await.payload.parse::<u32>().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
    assert_eq!(gateway.connected().await.generation, 1, "the connection survived");
}

#[tokio::test]
async fn a_broker_that_takes_qos_0_only_is_not_used() {
    let broker = Broker::with(Setup { lines: &["max_qos 0"], ..Setup::default() }).await;
    let gateway = Gateway::start(settings(Protocol::V5, broker.port()));

    assert!(gateway.failure().await.contains("QoS 0 only"));
}

#[tokio::test]
async fn a_broker_without_retained_messages_gets_none() {
    let broker = Broker::with(Setup { lines: &["retain_available false"], ..Setup::default() }).await;
    let mut subscriber = broker.subscribe(STATE).await;
    let gateway = Gateway::start(settings(Protocol::V5, broker.port()));

    assert!(!gateway.connected().await.limits.retain_available);
    assert_eq!(subscriber.next().await.payload, "online");
}

#[tokio::test]
async fn the_keep_alive_of_the_broker_is_obeyed() {
    let broker = Broker::with(Setup { lines: &["max_keepalive 10"], ..Setup::default() }).await;
    let gateway = Gateway::start(settings(Protocol::V5, broker.port()));

    assert_eq!(gateway.connected().await.limits.keep_alive_s, 10);
}

#[tokio::test]
async fn the_state_topic_follows_the_gateway_through_its_life() {
    for protocol in [Protocol::V5, Protocol::V311] {
        let broker = Broker::start().await;
        let gateway = Gateway::start(settings(protocol, broker.port()));
        gateway.counted("the state to be acknowledged", |s| s.acknowledged + s.no_subscribers > 0).await;

        let mut subscriber = broker.subscribe(STATE).await;
        let kept = subscriber.next().await;
        assert!(kept.retained && kept.payload == "online", "{kept:?}");

        gateway.online.send_replace(Bytes::from("online, revision 2"));
        assert_eq!(subscriber.next().await.payload, "online, revision 2");

        gateway.stop().await;
        assert_eq!(subscriber.next().await.payload, "offline");
        broker.logged("Received DISCONNECT from lineside-lyon-gw-01").await;
        let kept = broker.subscribe(STATE).await.next().await;
        assert!(kept.retained && kept.payload == "offline", "{kept:?}");
    }
}

#[tokio::test]
async fn the_broker_says_offline_for_a_gateway_that_was_cut_off() {
    for protocol in [Protocol::V5, Protocol::V311] {
        let broker = Broker::start().await;
        let proxy = Proxy::to(broker.port()).await;
        let mut subscriber = broker.subscribe(STATE).await;
        let gateway = Gateway::start(settings(protocol, proxy.port()));
        assert_eq!(subscriber.next().await.payload, "online");

        proxy.cut();

        assert_eq!(subscriber.next().await.payload, "offline");
        let kept = broker.subscribe(STATE).await.next().await;
        assert!(kept.retained && kept.payload == "offline", "{kept:?}");
        gateway.failure().await;
    }
}

#[tokio::test]
async fn a_stop_while_the_broker_is_away_ends_at_once() {
    let mut broker = Broker::start().await;
    broker.kill();
    let gateway = Gateway::start(settings(Protocol::V5, broker.port()));
    assert!(gateway.failure().await.contains("refuses the connection"));

    gateway.stop().await;
}

#[tokio::test]
async fn what_was_sent_to_the_gateway_while_it_was_away_arrives_when_it_is_back() {
    for protocol in [Protocol::V5, Protocol::V311] {
        let broker = Broker::start().await;
        let proxy = Proxy::to(broker.port()).await;
        let (messages, mut inbox) = mpsc::channel(4);
        let inbox_settings = Inbox { filters: vec!["to/gw-01/+".to_owned()], messages };
        let gateway = Gateway::start_with(settings(protocol, proxy.port()), Some(inbox_settings));
        let first = gateway.connected().await;
        broker.logged("Sending SUBACK to lineside-lyon-gw-01").await;
        proxy.cut();
        gateway.failure().await;

        broker.publish("to/gw-01/17", "hello");
        proxy.pass();
        let second = gateway.connected_after(first.generation).await;

        assert!(second.session_present);
        let received = within("the message", inbox.recv()).await.unwrap();
        assert_eq!((received.topic.as_str(), &received.payload[..]), ("to/gw-01/17", &b"hello"[..]));
    }
}

#[tokio::test]
async fn a_second_gateway_with_the_same_name_is_noticed() {
    let broker = Broker::start().await;
    let one = Gateway::start(settings(Protocol::V5, broker.port()));
    one.connected().await;

    let _other = Gateway::start(settings(Protocol::V5, broker.port()));

    let text = one.failure().await;
    assert!(text.contains("client id \"lineside-lyon-gw-01\""), "{text}");
}

#[tokio::test]
async fn an_unknown_host_is_named() {
    let settings = SessionSettings { host: "broker.invalid".to_owned(), ..settings(Protocol::V5, 1883) };
    let gateway = Gateway::start(settings);

    let text = gateway.failure().await;

    assert!(text.contains("no address found for host \"broker.invalid\""), "{text}");
    assert!(matches!(&*gateway.handle.state().borrow(), SessionState::Connecting { .. }));
}
