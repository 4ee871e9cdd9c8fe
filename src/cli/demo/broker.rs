//! An MQTT broker inside the process, and a gate in front of it that can be shut.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};

use anyhow::Context;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Largest message the broker takes, in bytes.
const PAYLOAD_MAX: usize = 1 << 20;

/// Starts the broker on a free port of the loopback address. It has no way to be stopped: it ends with the process.
pub(super) fn start() -> anyhow::Result<SocketAddr> {
    let listen = free_address()?;
    let connections = ConnectionSettings {
        connection_timeout_ms: 10_000,
        max_payload_size: PAYLOAD_MAX,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server =
        ServerSettings { name: "demo".to_owned(), listen, tls: None, next_connection_delay_ms: 1, connections };
    let router = RouterConfig {
        max_connections: 16,
        max_outgoing_packet_count: 200,
        max_segment_size: 8 << 20,
        max_segment_count: 4,
        ..RouterConfig::default()
    };
    let config = Config { router, v5: Some(HashMap::from([("5".to_owned(), server)])), ..Config::default() };
    let mut broker = Broker::new(config);
    std::thread::Builder::new().name("demo-broker".to_owned()).spawn(move || {
        if let Err(error) = broker.start() {
            tracing::error!(%error, "the broker of the demo ended");
        }
    })?;
    wait_until_it_listens(listen).context("the broker of the demo does not listen")?;
    Ok(listen)
}

fn free_address() -> anyhow::Result<SocketAddr> {
    let probe = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on the loopback address")?;
    Ok(probe.local_addr()?)
}

fn wait_until_it_listens(address: SocketAddr) -> std::io::Result<()> {
    const ATTEMPTS: u32 = 200;
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        match std::net::TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) => outcome = Err(error),
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    outcome
}

/// The way to the broker. While it is shut, connections break and new ones are closed at once.
pub(super) struct Gate {
    /// Where the agent finds the broker.
    pub address: SocketAddr,
    is_open: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Gate {
    /// An open gate to `broker`.
    pub async fn to(broker: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let address = listener.local_addr()?;
        let (is_open, state) = watch::channel(true);
        let task = tokio::spawn(pass(listener, broker, state));
        Ok(Self { address, is_open, task })
    }

    /// Opens or shuts the gate.
    pub fn set_open(&self, open: bool) {
        self.is_open.send_replace(open);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(listener: TcpListener, broker: SocketAddr, mut is_open: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted && *is_open.borrow() {
                    connections.spawn(join(stream, broker));
                }
            }
            changed = is_open.changed() => {
                if changed.is_err() {
                    return;
                }
                if !*is_open.borrow() {
                    connections.shutdown().await;
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn join(mut stream: TcpStream, broker: SocketAddr) {
    if let Ok(mut onward) = TcpStream::connect(broker).await {
        // Either side may go; then the other goes too.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
    }
}
