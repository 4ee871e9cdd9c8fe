//! Alarms of the agent itself, as a person and the broker see them.

use std::sync::Arc;

use super::*;
use crate::model::{AlarmState, Epoch, Priority, Scale, SeriesId, SeriesInfo, Value, ValueKind};

fn record(name: &str, labels: &[(&str, &str)], second: i64, transition: Transition) -> AlarmRecord {
    AlarmRecord {
        name: name.to_owned(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        time: Timestamp(second * 1000),
        transition,
        state: AlarmState::UnacknowledgedActive,
        priority: Priority::Medium,
        value: None,
        annotations: [("summary".to_owned(), format!("{name} at {second}"))].into(),
        readings: Vec::new(),
        by: None,
    }
}

fn silent(second: i64, transition: Transition) -> AlarmRecord {
    record("DeviceSilent", &[("device", "press-1"), ("link", "hall")], second, transition)
}

fn ask(alarms: &mut BuiltIns, name: &str, request: AlarmRequest) -> Result<Acted, NotPossible> {
    alarms.request(Timestamp(50_000), name, &Labels::new(), request, "eva").remove(0)
}

fn said(records: &[AlarmRecord]) -> Vec<(Transition, AlarmState)> {
    records.iter().map(|record| (record.transition, record.state)).collect()
}

#[test]
fn one_is_acknowledged_and_ends_when_the_device_answers() {
    let mut alarms = BuiltIns::default();

    let raised = alarms.take(vec![silent(10, Transition::Raised)]);
    let acknowledged = ask(&mut alarms, "DeviceSilent", AlarmRequest::Acknowledge).unwrap().record;
    let view = alarms.views().next().unwrap();
    let cleared = alarms.take(vec![silent(60, Transition::Cleared)]);

    assert_eq!(said(&raised), [(Transition::Raised, AlarmState::UnacknowledgedActive)]);
    assert_eq!((acknowledged.transition, acknowledged.by.as_deref()), (Transition::Acknowledged, Some("eva")));
    assert_eq!((view.source, view.state), (AlarmSource::BuiltIn, AlarmState::AcknowledgedActive));
    assert_eq!(view.annotations["summary"], "DeviceSilent at 10");
    assert_eq!(said(&cleared), [(Transition::Cleared, AlarmState::Normal)]);
    assert_eq!(cleared[0].annotations["summary"], "DeviceSilent at 60");
    assert_eq!(alarms.views().count(), 0);
}

#[test]
fn a_shelved_one_is_silent_until_the_shelf_ends_and_longer_than_a_day_it_cannot_last() {
    let mut alarms = BuiltIns::default();
    alarms.take(vec![silent(10, Transition::Raised)]);

    let shelved = ask(&mut alarms, "DeviceSilent", AlarmRequest::Shelve(SHELVE_MOST * 3)).unwrap();
    let cleared = alarms.take(vec![silent(60, Transition::Cleared)]);
    let again = alarms.take(vec![silent(70, Transition::Raised)]);
    let due = alarms.due().unwrap();
    let ended = alarms.advance(due);

    assert_eq!((shelved.limit, shelved.shelved_until), (Some(SHELVE_MOST), Some(Timestamp(50_000).after(SHELVE_MOST))));
    assert!(cleared.is_empty() && again.is_empty(), "{cleared:?} {again:?}");
    assert_eq!(said(&ended), [(Transition::Unshelved, AlarmState::UnacknowledgedActive)]);
}

#[test]
fn data_at_risk_can_be_acknowledged_and_not_put_aside() {
    let mut alarms = BuiltIns::default();
    let damaged = record("StoreDamaged", &[], 5, Transition::Raised);
    alarms.follow_store(std::slice::from_ref(&damaged), &["StoreDamaged"], Timestamp(7_000));
    alarms.take(vec![record("BrokerRefuses", &[("lane", "telemetry")], 6, Transition::Raised)]);

    for name in ["StoreDamaged", "BrokerRefuses"] {
        let refused = ask(&mut alarms, name, AlarmRequest::Shelve(SHELVE_MOST));
        assert_eq!(refused.err(), Some(NotPossible::DataAtRisk));
        assert!(ask(&mut alarms, name, AlarmRequest::Acknowledge).is_ok());
    }
    // The status of the store says the same again and again; what a person did stands.
    alarms.follow_store(&[damaged], &["StoreDamaged"], Timestamp(7_000));
    assert!(alarms.views().all(|view| view.state == AlarmState::AcknowledgedActive));
    alarms.follow_store(&[], &["StoreDamaged"], Timestamp(7_000));
    assert_eq!(alarms.views().map(|view| view.name).collect::<Vec<_>>(), ["BrokerRefuses"]);
}

#[test]
fn what_people_did_survives_a_restart_and_what_nobody_raises_again_ends() {
    let mut before = BuiltIns::default();
    before
        .take(vec![silent(10, Transition::Raised), record("DeviceSilent", &[("device", "b")], 11, Transition::Raised)]);
    ask(&mut before, "DeviceSilent", AlarmRequest::Acknowledge).unwrap();
    for rules in [&b"{\"boot\":1}\n{\"alarms\":[],\"version\":1}"[..], b"{\"version\":1}", b""] {
        let bytes = before.state().within(rules.to_vec());
        assert_eq!(of_rules(bytes.clone()), rules);

        let (mut after, start) = (BuiltIns::default(), Timestamp(100_000));
        after.restore(&bytes, start);
        let raised = after.take(vec![silent(101, Transition::Raised)]);
        let ended = after.advance(start.after(CONFIRM_WITHIN));

        // It is the same alarm still, and somebody has seen it.
        assert!(raised.is_empty());
        assert_eq!(after.views().next().unwrap().state, AlarmState::AcknowledgedActive);
        assert_eq!(
            (said(&ended), ended[0].labels["device"].as_str()),
            (vec![(Transition::Cleared, AlarmState::Normal)], "b")
        );
        assert_eq!(after.views().count(), 1);
    }
    assert_eq!(of_rules(b"no JSON".to_vec()), b"no JSON");
}

#[test]
fn a_good_reading_ends_what_was_raised_before_a_restart() {
    let (mut before, mut after) = (BuiltIns::default(), BuiltIns::default());
    before.take(vec![silent(10, Transition::Raised)]);
    after.restore(&before.state().within(Vec::new()), Timestamp(20_000));
    let info = SeriesInfo {
        name: "power_w".to_owned(),
        labels: Arc::new([("device".to_owned(), "press-1".to_owned())].into()),
        unit: String::new(),
        kind: ValueKind::F64,
        scale: Scale::ONE,
        states: BTreeMap::new(),
    };
    let catalogue =
        Catalogue { epoch: Epoch([7; 16]), series: vec![(SeriesId(0), Arc::new(info))], others: Vec::new() };
    let row = |second: i64, observed| Row {
        series: [SeriesId(0)].into(),
        time: Timestamp(second * 1000),
        observed: vec![observed],
    };

    let bad = after.see(&[row(21, Observed::Bad(crate::model::Fault::Timeout))], &catalogue);
    let good = after.see(&[row(22, Observed::Good(Value::F64(1.0)))], &catalogue);

    assert!(bad.is_empty());
    assert_eq!(said(&good), [(Transition::Cleared, AlarmState::Normal)]);
    assert_eq!(good[0].annotations["summary"], "press-1 gives good readings again");
}
