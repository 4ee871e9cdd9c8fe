//! An acknowledgement is not a delivery: brokers that acknowledge and discard, and refusals that the client cannot read.

#![cfg(test)]

mod support;

use lineside::mqtt::{Delivery, Protocol};
use support::broker::{Broker, Setup};
use support::gateway::{BATCH, Gateway, STATE, message, settings};
use support::raw_broker::{Behaviour, RawBroker};

fn is_unproven(delivery: &Delivery, smaller: bool) -> bool {
    matches!(delivery, Delivery::Unproven { tries_smaller, .. } if *tries_smaller == smaller)
}

#[tokio::test]
async fn a_message_that_the_broker_discards_for_its_size_is_not_delivered_in_mqtt_3_1_1() {
    let broker = Broker::with(Setup { lines: &["message_size_limit 1000"], ..Setup::default() }).await;
    let mut subscriber = broker.subscribe(BATCH).await;
    let gateway = Gateway::start(settings(Protocol::V311, broker.port()));
    gateway.connected().await;

    assert_eq!(gateway.publish(message(BATCH, "readings")).await, Delivery::Acknowledged);
    let large = gateway.publish(message(BATCH, &"x".repeat(2000))).await;
    let sizes = gateway.connected().await.sizes(BATCH);

    assert!(is_unproven(&large, true), "{large:?}");
    assert!(sizes.aim < 1000 && sizes.most > 2000, "{sizes:?}");
    assert_eq!(gateway.publish(message(BATCH, &"y".repeat(400))).await, Delivery::Acknowledged);
    assert_eq!(subscriber.next().await.payload, "readings");
    assert_eq!(subscriber.next().await.payload, "y".repeat(400));
}

#[tokio::test]
async fn a_broker_that_works_is_asked_once_for_all_messages_that_are_no_larger() {
    let broker = Broker::start().await;
    let gateway = Gateway::start(settings(Protocol::V311, broker.port()));
    gateway.connected().await;

    for number in 100..400 {
        let payload = format!("{number}").repeat(30);
        assert_eq!(gateway.publish(message(BATCH, &payload)).await, Delivery::Acknowledged);
    }

    gateway.stop().await;
    broker.logged("Received DISCONNECT").await;
    let returned =
        broker.log().matches(&format!("Sending PUBLISH to lineside-lyon-gw-01 (d0, q0, r0, m0, '{BATCH}'")).count();
    assert_eq!(returned, 1, "the subscription lasts as long as the proof");
}

#[tokio::test]
async fn without_a_subscription_a_message_is_sent_all_the_same_and_not_counted_as_delivered() {
    let broker = RawBroker::start(Behaviour { refuses_subscriptions: true, ..Behaviour::default() }).await;
    let gateway = Gateway::start(settings(Protocol::V311, broker.port()));
    gateway.connected().await;

    let delivery = gateway.publish(message(BATCH, "readings")).await;

    assert!(is_unproven(&delivery, false), "{delivery:?}");
    assert!(delivery.to_string().contains("refuses the subscription"), "{delivery}");
    assert_eq!(broker.count(BATCH), 1);
    let unproven = gateway.connected().await.proofs[0].unproven.clone().expect("it is said");
    assert!(!unproven.is_granted);
}

#[tokio::test]
async fn a_message_that_the_broker_had_kept_is_no_proof_and_one_that_it_passes_on_is() {
    for (returns, is_proof) in [(0x31, false), (0x30, true)] {
        let broker = RawBroker::start(Behaviour { returns: Some(returns), ..Behaviour::default() }).await;
        let gateway = Gateway::start(settings(Protocol::V311, broker.port()));
        gateway.connected().await;

        let delivery = gateway.publish(message(BATCH, "readings")).await;

        assert_eq!(delivery.is_delivered(), is_proof, "{returns:#04x}: {delivery:?}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_refusal_that_the_client_library_cannot_read_is_a_refusal_in_mqtt_5() {
    for reason in [0x95, 0x96, 0x8F, 0xFF] {
        let broker =
            RawBroker::start(Behaviour { is_v5: true, refuses: Some(("/batch", reason)), ..Behaviour::default() })
                .await;
        let gateway = Gateway::start(settings(Protocol::V5, broker.port()));
        let first = gateway.connected().await;
        gateway.counted("the state to be acknowledged", |status| status.acknowledged > 0).await;

        let delivery = gateway.publish(message(BATCH, &"x".repeat(4000))).await;

        assert!(
            matches!(delivery, Delivery::Refused { reason: said, .. } if said == reason),
            "{reason:#04x}: {delivery:?}"
        );
        let next = gateway.connected_after(first.generation).await;
        let is_cut = next.sizes(BATCH).aim < 4000;
        assert_eq!(is_cut, reason == 0x95, "{reason:#04x}: {:?}", next.sizes(BATCH));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn that_nobody_subscribes_is_said_about_batches_and_not_about_the_state() {
    let broker = Broker::start().await;
    let gateway = Gateway::start(settings(Protocol::V5, broker.port()));
    gateway.counted("the state to go to nobody", |status| status.no_subscribers > 0).await;
    assert_eq!(gateway.publish(message(STATE, "online")).await, Delivery::NoSubscribers);
    assert_eq!(gateway.handle.status().borrow().batches_to_nobody_since, None);

    assert_eq!(gateway.publish(message(BATCH, "readings")).await, Delivery::NoSubscribers);
    assert!(gateway.handle.status().borrow().batches_to_nobody_since.is_some());

    let _subscriber = broker.subscribe(BATCH).await;
    assert_eq!(gateway.publish(message(BATCH, "readings")).await, Delivery::Acknowledged);
    assert_eq!(gateway.handle.status().borrow().batches_to_nobody_since, None);
}
