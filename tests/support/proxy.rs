//! A TCP proxy on loopback that can cut or stall what goes through it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes that go at once through a line that is too slow.
const PIECE: usize = 512;

/// What the proxy does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Bytes go through both ways.
    Pass,
    /// Bytes go through both ways, so many in a second.
    Limit(u32),
    /// Connections stay open and no byte moves.
    Stall,
    /// Connections are closed, new ones too.
    Cut,
}

/// Stands between a client and a server on this machine. Goes away when dropped, and its connections with it.
pub struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Passes everything to `port` on loopback until told otherwise.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let (mode, seen) = watch::channel(Mode::Pass);
        let accepting = tokio::spawn(accept(listener, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), seen));
        Self { port: own_port, mode, accepting }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection, and every new one at once.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Keeps connections open and moves nothing: a line that went dead.
    pub fn stall(&self) {
        self.mode.send_replace(Mode::Stall);
    }

    /// Moves so many bytes a second each way: a line that is too slow.
    pub fn limit(&self, bytes_per_second: u32) {
        self.mode.send_replace(Mode::Limit(bytes_per_second));
    }

    /// Moves everything again, what was held back first.
    pub fn pass(&self) {
        self.mode.send_replace(Mode::Pass);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, mode: watch::Receiver<Mode>) {
    while let Ok((client, _)) = listener.accept().await {
        let mut mode = mode.clone();
        mode.mark_unchanged();
        tokio::spawn(async move {
            let mut end = mode.clone();
            tokio::select! {
                // Both halves are dropped with this task, whichever way it ends.
                _ = connect(client, server, mode) => {}
                _ = end.wait_for(|mode| *mode == Mode::Cut) => {}
            }
        });
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mode: watch::Receiver<Mode>) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        done = carry(from_client, to_server, mode.clone()) => done,
        done = carry(from_server, to_client, mode) => done,
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) -> io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let room = if matches!(*mode.borrow(), Mode::Limit(_)) { PIECE } else { bytes.len() };
        let count = from.read(&mut bytes[..room]).await?;
        if count == 0 || may_go(&mut mode, count).await.is_none() {
            return Ok(());
        }
        to.write_all(&bytes[..count]).await?;
    }
}

/// Waits until `count` bytes may go on. `None` when the proxy has gone.
async fn may_go(mode: &mut watch::Receiver<Mode>, count: usize) -> Option<()> {
    loop {
        let now = *mode.wait_for(|mode| matches!(mode, Mode::Pass | Mode::Limit(_))).await.ok()?;
        let Mode::Limit(bytes_per_second) = now else { return Some(()) };
        let time = Duration::from_secs_f64(count as f64 / f64::from(bytes_per_second));
        tokio::select! {
            () = tokio::time::sleep(time) => return Some(()),
            changed = mode.changed() => changed.ok()?,
        }
    }
}
