use serde_json::{Value, json};

use super::*;
use crate::commands::order::Envelope;
use crate::commands::signature::SigningKey;
use crate::config::KeyConfig;
use crate::model::Name;

const HERE: &str = "lyon/gw-01";
const NOW: Now = Now { time: Timestamp(1_000_000), clock: ClockState::Synchronised, monotonic: Duration::from_secs(9) };

struct Sender {
    key: SigningKey,
    config: RemoteConfig,
}

impl Sender {
    fn new(role: Role) -> Self {
        let key = SigningKey::generate().unwrap();
        let public = signature::from_hex(&key.public()).unwrap().try_into().unwrap();
        let keys = vec![KeyConfig { name: Name::new("anna").unwrap(), role, public }];
        Self { key, config: RemoteConfig { insecure: false, keys } }
    }

    fn text(command: &str) -> Value {
        json!({ "id": "7", "gateway": HERE, "expires": 1_060_000, "counter": 5, "command": command })
    }

    fn sign(&self, text: &Value) -> Envelope {
        let command = text.to_string();
        let signature = Some(self.key.sign(FOR_COMMAND, &command));
        Envelope { command, key: Some("anna".to_owned()), signature }
    }

    fn verify(&self, envelope: &Envelope, now: Now) -> Result<Genuine, Refusal> {
        let payload = serde_json::to_vec(envelope).unwrap();
        Gate::default().verify(&self.config, HERE, "7", (&payload, false), now)
    }

    fn refused(&self, text: &Value) -> &'static str {
        self.verify(&self.sign(text), NOW).unwrap_err().kind()
    }
}

fn with(mut text: Value, key: &str, value: Value) -> Value {
    text[key] = value;
    text
}

#[test]
fn a_genuine_command_passes_with_its_sender() {
    let sender = Sender::new(Role::Viewer);

    let genuine = sender.verify(&sender.sign(&Sender::text("status")), NOW).unwrap();

    assert_eq!((genuine.verb, genuine.key.as_str(), genuine.role), (Verb::Status, "anna", Role::Viewer));
}

#[test]
fn each_check_has_its_own_refusal() {
    let sender = Sender::new(Role::Viewer);
    let text = Sender::text("status");

    assert_eq!(sender.refused(&with(text.clone(), "gateway", json!("lyon/gw-02"))), "gateway");
    assert_eq!(sender.refused(&with(text.clone(), "expires", json!(1_000_000))), "expired");
    assert_eq!(sender.refused(&with(text.clone(), "expires", json!(1_000_001 + 24 * 3_600_000))), "expiry-too-far");
    assert_eq!(sender.refused(&with(text.clone(), "command", json!("restart"))), "role");
    assert_eq!(sender.refused(&with(text.clone(), "command", json!("reboot"))), "not-understood");
    assert_eq!(sender.refused(&with(text.clone(), "id", json!("8"))), "malformed");
    let unset = Now { clock: ClockState::Unsynchronised, ..NOW };
    assert_eq!(sender.verify(&sender.sign(&text), unset).unwrap_err(), Refusal::ClockUntrusted);
    let payload = serde_json::to_vec(&sender.sign(&text)).unwrap();
    let gate = Gate::default();
    assert_eq!(gate.verify(&sender.config, HERE, "7", (&payload, true), NOW), Err(Refusal::Retained));
    let large = vec![b' '; COMMAND_MAX + 1];
    assert!(matches!(gate.verify(&sender.config, HERE, "7", (&large, false), NOW), Err(Refusal::TooLarge { .. })));
}

#[test]
fn a_signature_by_another_key_for_other_bytes_or_none_is_refused() {
    let (sender, stranger) = (Sender::new(Role::Engineer), Sender::new(Role::Engineer));
    let text = Sender::text("status");
    let envelope = sender.sign(&text);

    let changed = Envelope { command: envelope.command.replace("1060000", "1060001"), ..envelope.clone() };
    let unsigned = Envelope { signature: None, ..envelope.clone() };
    let odd = Envelope { signature: Some("é".repeat(64)), ..envelope.clone() };
    for bad in [stranger.sign(&text), changed, unsigned, odd] {
        assert_eq!(sender.verify(&bad, NOW), Err(Refusal::Signature));
    }
    let nobody = Envelope { key: Some("bert".to_owned()), ..envelope };
    assert_eq!(sender.verify(&nobody, NOW), Err(Refusal::UnknownKey("bert".to_owned())));
}

#[test]
fn unsigned_commands_need_the_consent_of_the_owner_and_are_no_engineers() {
    let mut sender = Sender::new(Role::Engineer);
    let unsigned = |command| Envelope { command: Sender::text(command).to_string(), key: None, signature: None };
    assert_eq!(sender.verify(&unsigned("status"), NOW), Err(Refusal::Unsigned));

    sender.config.insecure = true;

    assert_eq!(sender.verify(&unsigned("status"), NOW).unwrap().key, UNSIGNED);
    assert_eq!(sender.verify(&unsigned("restart"), NOW).unwrap_err().kind(), "role");
    let signed_by_nobody = Envelope { signature: Some("00".to_owned()), ..unsigned("status") };
    assert_eq!(sender.verify(&signed_by_nobody, NOW), Err(Refusal::Unsigned));
}

#[test]
fn a_counter_never_goes_back_and_a_key_has_its_pace() {
    let sender = Sender::new(Role::Viewer);
    let genuine = |counter: u64| {
        sender.verify(&sender.sign(&with(Sender::text("status"), "counter", json!(counter))), NOW).unwrap()
    };
    let mut gate = Gate::new(HashMap::from([("anna".to_owned(), 5)]));
    for old in [0, 4, 5] {
        assert_eq!(gate.admit(&genuine(old), NOW).unwrap_err().kind(), "counter");
    }
    for next in 6..26 {
        gate.admit(&genuine(next), NOW).unwrap();
        gate.used("anna", next);
    }
    assert_eq!(gate.admit(&genuine(26), NOW).unwrap_err().kind(), "rate");
    let later = Now { monotonic: NOW.monotonic + Duration::from_secs(1), ..NOW };
    gate.admit(&genuine(26), later).unwrap();
    assert_eq!(gate.admit(&genuine(27), later).unwrap_err().kind(), "rate");
}
