//! Those who command: keys, signed messages, and the answers to them.

use std::path::Path;
use std::time::Duration;

use lineside::commands::answer::Answer;
use lineside::commands::order::Envelope;
use lineside::commands::signature::{FOR_COMMAND, SigningKey};
use lineside::mqtt::{Bytes, Message, Protocol, Received, SessionSettings, Visitor};
use serde_json::{Value, json};

use super::gateway::{message, settings};
use super::site::BASE;
use super::within;

/// Milliseconds since 1970.
pub fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// A holder of a key.
pub struct Signer {
    pub name: &'static str,
    pub role: &'static str,
    pub key: SigningKey,
}

impl Signer {
    pub fn new(name: &'static str, role: &'static str) -> Self {
        Self { name, role, key: SigningKey::generate().unwrap() }
    }

    /// What the gateway's configuration needs to know it.
    pub fn section(&self) -> String {
        format!(
            "\n[[remote.key]]\nname = \"{}\"\nrole = \"{}\"\npublic = \"{}\"\n",
            self.name,
            self.role,
            self.key.public()
        )
    }

    /// Writes the file that `lineside command send --key` wants.
    pub fn store(&self, file: &Path) {
        let seed = lineside::commands::signature::hex(&self.key.seed());
        std::fs::write(file, json!({ "name": self.name, "role": self.role, "seed": seed }).to_string()).unwrap();
    }

    /// The message with this signed text.
    pub fn sign(&self, text: &Value) -> String {
        let command = text.to_string();
        let signature = Some(self.key.sign(FOR_COMMAND, &command));
        serde_json::to_string(&Envelope { command, key: Some(self.name.to_owned()), signature }).unwrap()
    }
}

/// A signed text that is in order.
pub fn order(id: &str, command: &str, arguments: Value) -> Value {
    json!({
        "id": id, "gateway": "lyon/gw-01", "expires": now() + 60_000, "counter": now(), "command": command,
        "arguments": arguments,
    })
}

/// The same with one field changed.
pub fn with(mut order: Value, key: &str, value: Value) -> Value {
    order[key] = value;
    order
}

/// A connection of somebody who commands.
pub struct Commander(Visitor);

impl Commander {
    /// Connects without TLS and listens to every answer.
    pub async fn connect(port: u16) -> Self {
        let client_id = format!("commander-{:08x}", fastrand::u32(..));
        Self::with(SessionSettings { client_id, ..settings(Protocol::V5, port) }).await
    }

    /// Connects as told.
    pub async fn with(settings: SessionSettings) -> Self {
        let filters = [format!("{BASE}/ack/+"), format!("{BASE}/config/reported")];
        Self(within("a connection", Visitor::connect(settings, &filters)).await.unwrap())
    }

    /// Publishes a command.
    pub async fn send(&mut self, id: &str, payload: &str) {
        self.publish(message(&format!("{BASE}/cmd/{id}"), payload)).await;
    }

    /// Publishes anything.
    pub async fn publish(&mut self, message: Message) {
        let delivery = within("an answer of the broker", self.0.publish(message)).await.unwrap();
        assert!(delivery.is_delivered(), "{delivery}");
    }

    /// The next message.
    pub async fn next(&mut self) -> Received {
        within("an answer", self.0.next()).await.unwrap()
    }

    /// The next answer to this command that is the last one.
    pub async fn last_answer(&mut self, id: &str) -> Answer {
        loop {
            let received = self.next().await;
            let Ok(answer) = serde_json::from_slice::<Answer>(&received.payload) else { continue };
            if answer.id == id && answer.state.is_final() {
                return answer;
            }
        }
    }

    /// Sends a command and waits for the last answer.
    pub async fn ask(&mut self, id: &str, payload: &str) -> Answer {
        self.send(id, payload).await;
        self.last_answer(id).await
    }

    /// Sends a command until it is answered: the gateway may just be connecting.
    pub async fn last_answer_after(&mut self, id: &str, payload: &str) -> Answer {
        loop {
            self.send(id, payload).await;
            if let Ok(answer) = tokio::time::timeout(Duration::from_secs(2), self.last_answer(id)).await {
                return answer;
            }
        }
    }
}

/// A message as bytes that are no text.
pub fn raw(id: &str, payload: &[u8]) -> Message {
    Message { payload: Bytes::from(payload.to_vec()), ..message(&format!("{BASE}/cmd/{id}"), "") }
}
