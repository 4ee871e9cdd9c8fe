//! A TCP proxy on loopback that can cut or stall what goes through it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Bytes go through both ways.
    Pass,
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
        let count = from.read(&mut bytes).await?;
        if count == 0 || mode.wait_for(|mode| *mode == Mode::Pass).await.is_err() {
            return Ok(());
        }
        to.write_all(&bytes[..count]).await?;
    }
}
