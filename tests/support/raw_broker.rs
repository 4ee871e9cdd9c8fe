//! A broker of a few lines for one client: it does what no real broker can be set up to do.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How it behaves.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// Whether it speaks MQTT 5; otherwise 3.1.1.
    pub is_v5: bool,
    /// Bytes in place of its CONNACK.
    pub connack: Option<Vec<u8>>,
    /// Bytes it sends behind its CONNACK.
    pub after_connack: Vec<u8>,
    /// Whether it refuses subscriptions.
    pub refuses_subscriptions: bool,
    /// Topics that end so are refused, with this reason (MQTT 5).
    pub refuses: Option<(&'static str, u8)>,
    /// First byte of the PUBLISH by which it returns messages: 0x30, or 0x31 for what it kept. It returns none without.
    pub returns: Option<u8>,
}

/// Goes away when dropped.
pub struct RawBroker {
    port: u16,
    published: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl RawBroker {
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let published = Arc::new(Mutex::new(Vec::new()));
        let seen = published.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away ends its connection.
                tokio::spawn(serve(stream, behaviour.clone(), seen.clone()));
            }
        });
        Self { port, published, task }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many messages came on `topic`.
    pub fn count(&self, topic: &str) -> usize {
        self.published.lock().unwrap().iter().filter(|seen| *seen == topic).count()
    }
}

impl Drop for RawBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, behaviour: Behaviour, seen: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    loop {
        let first = stream.read_u8().await?;
        let length = remaining_length(&mut stream).await?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let answer = match first >> 4 {
            1 => {
                let own = if behaviour.is_v5 { vec![0x20, 3, 0, 0, 0] } else { vec![0x20, 2, 0, 0] };
                let mut answer = behaviour.connack.clone().unwrap_or(own);
                answer.extend(&behaviour.after_connack);
                answer
            }
            3 => published(&body, &behaviour, &seen),
            8 => {
                let code = if behaviour.refuses_subscriptions { 0x80 } else { 0 };
                vec![0x90, 3, body[0], body[1], code]
            }
            10 => vec![0xB0, 2, body[0], body[1]],
            12 => vec![0xD0, 0],
            _ => Vec::new(),
        };
        stream.write_all(&answer).await?;
    }
}

/// The answer to a message with QoS 1: it comes back first, as from Mosquitto, then it is acknowledged.
fn published(body: &[u8], behaviour: &Behaviour, seen: &Mutex<Vec<String>>) -> Vec<u8> {
    let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let topic = String::from_utf8(body[2..end].to_vec()).unwrap();
    let mut answer = Vec::new();
    if let Some(first) = behaviour.returns {
        let returned = [&body[..end], &body[end + 2..]].concat();
        answer.push(first);
        answer.push(u8::try_from(returned.len()).expect("the tests send little"));
        answer.extend(returned);
    }
    match behaviour.refuses.filter(|(ending, _)| topic.ends_with(ending)) {
        Some((_, reason)) => answer.extend([0x40, 3, body[end], body[end + 1], reason]),
        None => answer.extend([0x40, 2, body[end], body[end + 1]]),
    }
    seen.lock().unwrap().push(topic);
    answer
}

async fn remaining_length(stream: &mut TcpStream) -> std::io::Result<usize> {
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await?;
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Ok(length);
        }
    }
}
