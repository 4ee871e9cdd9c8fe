use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn whole(status: &Value) -> (Vec<u8>, Whole) {
    let text = status.to_string();
    let payload = encode_whole("5f0c21d9", "full", &serde_json::from_str(&text).unwrap()).unwrap();
    match decode(&payload).unwrap() {
        HealthMessage::Whole(whole) => (payload, whole),
        HealthMessage::Changes(changes) => panic!("{changes:?}"),
    }
}

fn changes_since(base: &[u8], now: &Value) -> Vec<u8> {
    encode_changes(base, 3, &serde_json::from_str(&now.to_string()).unwrap()).unwrap()
}

/// What a receiver has of `now` after a message told against `base`.
fn carried(base: &Value, now: &Value) -> (Changes, Value) {
    let (payload, whole) = whole(base);
    match decode(&changes_since(&payload, now)).unwrap() {
        HealthMessage::Changes(changes) => {
            let status = changes.onto(&whole).unwrap();
            (changes, status)
        }
        HealthMessage::Whole(whole) => panic!("{whole:?}"),
    }
}

fn plant(devices: u64, minutes: u64) -> Value {
    let device = |number: u64| {
        json!({
            "name": format!("device-{number}"),
            "requests": 60 * minutes,
            "buckets": [0, 58 * minutes, 2 * minutes, 0],
            "state": "answering",
            "last_error": null,
        })
    };
    let link = |number: u64| json!({ "busy_ratio": 0.0125, "devices": [device(2 * number), device(2 * number + 1)] });
    json!({ "version": "0.1.0", "links": (0..devices / 2).map(link).collect::<Vec<_>>(), "cpu_seconds": 1.5 })
}

#[test]
fn a_whole_state_and_its_changes_come_back() {
    let mut now = plant(4, 2);
    now["links"][1]["devices"][0]["state"] = json!("silent");
    now["links"][1]["busy_ratio"] = json!(0.5);
    now["cpu_seconds"] = json!(2.0);

    let (changes, status) = carried(&plant(4, 1), &now);

    assert_eq!(status, now);
    assert_eq!((changes.base.as_str(), changes.number), ("5f0c21d9", 3));
    let key = |key: &str| Step::Key(key.to_owned());
    let path = vec![key("links"), Step::Index(1), key("devices"), Step::Index(0), key("state")];
    assert_eq!(changes.set, [(path, json!("silent"))]);
}

#[test]
fn the_same_counter_of_all_devices_stands_side_by_side() {
    let (changes, _) = carried(&plant(4, 1), &plant(4, 2));

    // cpu_seconds, then links.*: busy_ratio, devices.*: four buckets and the requests.
    let entries = [0, 0, 0, 0, 0, 0, 0, 58, 58, 58, 58, 2, 2, 2, 2, 0, 0, 0, 0, 60, 60, 60, 60];
    assert_eq!(changes.add, entries.map(Entry::Add));
    assert_eq!((changes.set.len(), changes.drop.len()), (0, 0));
}

#[test]
fn members_that_come_go_or_change_their_kind_are_said_by_name() {
    let base = json!({ "a": 1, "gone": { "b": 2 }, "kind": 3, "list": [1, 2], "large": u64::MAX, "z": 1 });
    let now = json!({ "a": 2, "kind": 3.5, "list": [1, 2, 3], "large": u64::MAX, "new": { "c": [1] }, "z": -1 });

    let (changes, status) = carried(&base, &now);

    assert_eq!(status, now);
    assert_eq!(changes.drop, [vec![Step::Key("gone".to_owned())]]);
    assert_eq!(changes.add, [1, 0, -2].map(Entry::Add));
}

#[test]
fn changes_of_another_whole_state_are_refused() {
    let (payload, _) = whole(&plant(2, 1));
    let changes = match decode(&changes_since(&payload, &plant(2, 2))).unwrap() {
        HealthMessage::Changes(changes) => changes,
        HealthMessage::Whole(whole) => panic!("{whole:?}"),
    };
    let (_, mut other) = whole(&plant(4, 1));

    assert!(changes.onto(&other).unwrap_err().to_string().contains("12 numbers for a document of 23"));
    other.id = "00000000".to_owned();
    assert!(changes.onto(&other).unwrap_err().to_string().contains("5f0c21d9"));
}

#[test]
fn two_hundred_quiet_devices_take_little() {
    let (payload, _) = whole(&plant(200, 100));
    let changes = changes_since(&payload, &plant(200, 101));

    assert!(changes.len() < 200, "{} bytes", changes.len());
}

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c\"\u{e9}]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-c\"]{1,2}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_two_documents_are_carried(base in document(), now in document()) {
        let (_, status) = carried(&json!({ "status": base }), &json!({ "status": now }));
        prop_assert_eq!(status, json!({ "status": now }));
    }

    #[test]
    fn bytes_from_outside_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        _ = decode(&bytes);
        if let Ok(payload) = zstd::bulk::compress(&bytes, 1) {
            _ = decode(&payload);
        }
    }
}
