//! The local socket: answers `status`, `tail` and `read` while the agent runs.
//!
//! Permissions of the socket file decide who may ask (owner and group); nothing listens on the network.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::deeds::Deeds;
use super::protocol::{AlarmAnswer, Lendable, Notice, Request, ShownReading};
use super::{Board, lendable, stored};
use crate::buffer::{BufferHandle, Catalogue};
use crate::ingest::{LiveHandle, RulesHandle, Wanted};
use crate::model::{Name, Observed, Row, SeriesId, SeriesInfo, UnitId, Value};
use crate::poll::{LinkHandle, PollError};
use crate::profile::Table;

/// Longest request line, in bytes.
const REQUEST_MAX: u64 = 4096;

/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 16;

/// What the socket can reach besides the board; changes when a configuration is loaded.
#[derive(Clone, Default)]
pub struct Directory {
    /// Links by name.
    pub links: HashMap<String, LinkHandle>,
    /// Link of each device.
    pub devices: HashMap<String, String>,
    /// What each series is.
    pub catalogue: Option<Arc<Catalogue>>,
}

/// The task that owns the socket.
pub struct SocketServer {
    listener: UnixListener,
    path: PathBuf,
    services: Services,
}

/// What every connection needs.
#[derive(Clone)]
pub struct Services {
    /// Snapshots.
    pub board: Board,
    /// Live readings.
    pub live: LiveHandle,
    /// Alarms.
    pub rules: RulesHandle,
    /// What the socket itself cannot do.
    pub deeds: Deeds,
    /// The store.
    pub buffer: BufferHandle,
    /// Links and series.
    pub directory: watch::Receiver<Directory>,
}

impl SocketServer {
    /// Binds the socket at `path`, for owner and group. A socket that a dead agent left behind is replaced.
    pub fn bind(path: &Path, services: Services) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        if path.exists() {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent answers on this socket"));
            }
            std::fs::remove_file(path)?;
        }
        let listener = bind_private(path)?;
        Ok(Self { listener, path: path.to_owned(), services })
    }

    /// Serves until told to stop. Requests wait until the links are known.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            // An error means that the agent ends before it has begun.
            _ = self.services.directory.changed() => {}
        }
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve(stream, self.services.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a diagnostic connection could not be accepted");
                        // Out of file descriptors: give those that are open time to close.
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                },
            }
        }
        // A reader of the live stream would stay for ever.
        connections.shutdown().await;
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds a socket that nobody but owner and group could ever connect to: it gets its permissions in a directory of its
/// own, and only then its place.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let own = path.with_extension("new");
    // A start that was killed here left it behind.
    let _ = std::fs::remove_dir_all(&own);
    std::fs::DirBuilder::new().mode(0o700).create(&own)?;
    let inside = own.join("s");
    let bound = UnixListener::bind(&inside).and_then(|listener| {
        std::fs::set_permissions(&inside, std::fs::Permissions::from_mode(0o660))?;
        std::fs::rename(&inside, path)?;
        Ok(listener)
    });
    let removed = std::fs::remove_dir_all(&own);
    bound.and_then(|listener| removed.map(|()| listener))
}

/// One connection: a request, its answers, the end. An error means that the other side has gone.
async fn serve(stream: UnixStream, services: Services) {
    let (reader, mut writer) = stream.into_split();
    let _ = answer(reader, &mut writer, services).await;
}

async fn answer(reader: OwnedReadHalf, writer: &mut OwnedWriteHalf, services: Services) -> io::Result<()> {
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(REQUEST_MAX));
    if reader.read_line(&mut line).await? == 0 {
        return Ok(());
    }
    match serde_json::from_str::<Request>(&line) {
        Ok(Request::Status) => send(writer, &services.board.snapshot()).await,
        Ok(Request::Tail) => tail(reader.into_inner().into_inner(), writer, services).await,
        Ok(Request::Alarms) => send(writer, &services.rules.alarms().await).await,
        Ok(Request::AlarmDeed { name, labels, wanted, by }) => {
            let wanted = Wanted { name, labels, request: wanted, by };
            match services.rules.act(wanted).await {
                Ok(answers) => {
                    let answers = answers.into_iter().map(AlarmAnswer::from);
                    send(writer, &answers.collect::<Vec<_>>()).await
                }
                Err(error) => send(writer, &Notice::Error(format!("done, but not stored: {error}"))).await,
            }
        }
        Ok(
            request @ (Request::Write { .. }
            | Request::Writes
            | Request::WritesLock { .. }
            | Request::SupportBundle
            | Request::ConfigHistory
            | Request::ConfigRollback { .. }),
        ) => match services.deeds.have_done(request).await {
            Ok(answer) => send(writer, &answer).await,
            Err(notice) => send(writer, &notice).await,
        },
        Ok(Request::StoreOverview) => stored::overview(writer, &services.buffer).await,
        Ok(Request::StoreCatalogue) => stored::catalogue(writer, &services.buffer).await,
        Ok(Request::StorePage { lane, span, from }) => stored::page(writer, &services.buffer, lane, span, from).await,
        Ok(Request::StoreResend { lane, span }) => stored::resend(writer, &services.buffer, lane, span).await,
        Ok(Request::Read { device }) => read(writer, &services, &device).await,
        Ok(Request::Forget { device }) => {
            let outcome = forget(&services, &device).await;
            send(writer, &outcome.map_or_else(|notice| notice, Notice::Forgotten)).await
        }
        Ok(Request::Lend { wanted }) => lend(reader.into_inner().into_inner(), writer, &services, &wanted).await,
        Ok(Request::ReadRaw { link, unit_id, table, address, count }) => {
            let outcome = read_raw(&services, &link, unit_id, &table, address, count).await;
            send(writer, &outcome.map_or_else(|notice| notice, Notice::Registers)).await
        }
        Err(error) => send(writer, &Notice::Refused(format!("not a request: {error}"))).await,
    }
}

pub(super) async fn send(writer: &mut OwnedWriteHalf, answer: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

async fn tail(mut reader: OwnedReadHalf, writer: &mut OwnedWriteHalf, services: Services) -> io::Result<()> {
    let mut live = services.live.subscribe();
    let mut end = [0; 1];
    loop {
        let rows = tokio::select! {
            rows = live.recv() => rows,
            _ = reader.read(&mut end) => return Ok(()),
        };
        match rows {
            Ok(rows) => send_rows(writer, &rows, &services).await?,
            Err(broadcast::error::RecvError::Lagged(missed)) => send(writer, &Notice::Missed(missed)).await?,
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}

async fn send_rows(writer: &mut OwnedWriteHalf, rows: &[Row], services: &Services) -> io::Result<()> {
    // Not that of the directory: rules record series that no configuration names.
    let catalogue = services.board.catalogue.borrow().clone();
    let info_of = |id| catalogue.get(id).cloned();
    let mut lines = Vec::new();
    for reading in rows.iter().flat_map(|row| shown(row, &info_of)) {
        serde_json::to_writer(&mut lines, &reading)?;
        lines.push(b'\n');
    }
    writer.write_all(&lines).await
}

/// The readings of a row as people see them.
pub fn shown(row: &Row, info_of: &dyn Fn(SeriesId) -> Option<Arc<SeriesInfo>>) -> Vec<ShownReading> {
    let readings = row.series.iter().zip(&row.observed);
    let known = readings.filter_map(|(id, observed)| info_of(*id).map(|info| (info, observed)));
    known.map(|(info, observed)| show(&info, row.time, observed)).collect()
}

/// One reading as people see it.
pub fn show(info: &SeriesInfo, time: crate::model::Timestamp, observed: &Observed) -> ShownReading {
    let value = observed.value();
    let state = value.and_then(|value| info.state(value)).map(str::to_owned);
    ShownReading {
        time,
        device: info.labels.get("device").cloned().unwrap_or_default(),
        point: info.name.clone(),
        labels: labels_of_recorded(info),
        value: value.map_or(serde_json::Value::Null, |value| shown_value(info, value)),
        unit: info.unit.clone(),
        state,
        quality: observed.quality().to_string(),
    }
}

/// What tells apart the series that a rule records, where it is not the device.
fn labels_of_recorded(info: &SeriesInfo) -> BTreeMap<String, String> {
    if info.labels.contains_key("device") {
        return BTreeMap::new();
    }
    let others = info.labels.iter().filter(|(key, _)| !matches!(key.as_str(), "site" | "gateway"));
    others.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn shown_value(info: &SeriesInfo, value: &Value) -> serde_json::Value {
    let is_plain = info.scale == crate::model::Scale::ONE;
    match value {
        Value::Text(text) => text.as_ref().into(),
        Value::Bool(bit) => (*bit).into(),
        Value::Int(number) if is_plain => (*number).into(),
        Value::Uint(number) if is_plain => (*number).into(),
        Value::Int(_) | Value::Uint(_) | Value::F32(_) | Value::F64(_) => {
            value.number().map_or(serde_json::Value::Null, |number| info.scale.apply(number).into())
        }
    }
}

/// The link of a device, and its name.
fn link_of(services: &Services, device: &str) -> Result<(LinkHandle, Name), Notice> {
    let directory = services.directory.borrow();
    let link = directory.devices.get(device).and_then(|link| directory.links.get(link));
    link.cloned().zip(Name::new(device).ok()).ok_or_else(|| {
        let mut names: Vec<&str> = directory.devices.keys().map(String::as_str).collect();
        names.sort_unstable();
        Notice::Refused(format!("no device {device:?}; devices are {}", names.join(", ")))
    })
}

async fn read(writer: &mut OwnedWriteHalf, services: &Services, device: &str) -> io::Result<()> {
    let (link, name) = match link_of(services, device) {
        Ok(found) => found,
        Err(notice) => return send(writer, &notice).await,
    };
    match link.read_device(&name).await {
        Ok(rows) => send_rows(writer, &rows, services).await,
        Err(error) => send(writer, &Notice::Error(format!("{device}: {error}"))).await,
    }
}

async fn forget(services: &Services, device: &str) -> Result<bool, Notice> {
    let (link, name) = link_of(services, device)?;
    link.forget(&name).await.map_err(|error| Notice::Error(format!("{device}: {error}")))
}

/// Lends a link for as long as the other side stays.
async fn lend(
    mut reader: OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
    services: &Services,
    wanted: &Lendable,
) -> io::Result<()> {
    let links = services.directory.borrow().links.clone();
    let found = match wanted {
        Lendable::Link(name) => links.get_key_value(name),
        Lendable::Port(port) => lendable::link_with_port(&links, port),
        Lendable::Host { host, port } => lendable::link_with_host(&links, host, *port).await,
    };
    let Some((name, handle)) = found else {
        let answer = match wanted {
            Lendable::Link(name) => Notice::Refused(format!("no link {name:?}")),
            Lendable::Port(_) | Lendable::Host { .. } => Notice::Lent(None),
        };
        return send(writer, &answer).await;
    };
    match handle.lend().await {
        Ok(loan) => {
            send(writer, &Notice::Lent(Some(name.clone()))).await?;
            // Nothing more is said; this ends when the other side has gone.
            let gone = reader.read(&mut [0; 1]).await;
            drop(loan);
            gone.map(|_| ())
        }
        Err(PollError::NoRegisters) => {
            let reason = format!(
                "the port is that of link {name}, whose instrument speaks lines of text and no Modbus; stop the agent \
                 to use it for something else"
            );
            send(writer, &Notice::Error(reason)).await
        }
        Err(error) => send(writer, &Notice::Error(format!("link {name} cannot be lent: {error}"))).await,
    }
}

async fn read_raw(
    services: &Services,
    link: &str,
    unit_id: u8,
    table: &str,
    address: u16,
    count: u16,
) -> Result<Vec<u16>, Notice> {
    let directory = services.directory.borrow().clone();
    let handle = directory.links.get(link).ok_or_else(|| {
        let mut names: Vec<&str> = directory.links.keys().map(String::as_str).collect();
        names.sort_unstable();
        Notice::Refused(format!("no link {link:?}; links are {}", names.join(", ")))
    })?;
    let unit = UnitId::tcp(i64::from(unit_id));
    let unit = unit.map_err(|error| Notice::Refused(format!("unit id {unit_id}: {error}")))?;
    let table = Table::from_word(table);
    let table = table.ok_or_else(|| Notice::Refused("table must be coil, discrete, holding or input".to_owned()))?;
    handle.read_raw(unit, table, address, count).await.map_err(|error| match error {
        PollError::Refused { .. } | PollError::UnitId { .. } | PollError::NoRegisters | PollError::NotAsked => {
            Notice::Refused(format!("link {link}: {error}"))
        }
        other => Notice::Error(format!("link {link}, unit {unit}: {other}")),
    })
}
