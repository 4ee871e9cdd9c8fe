//! The thread that owns the store: gathers rows, saves in time, answers.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout_at;

use super::catalogue::Catalogue;
use super::gather::ALARMS_PER_COMMIT;
use super::history::{HistorySpan, Overview, Page};
use super::open_commit::OpenCommit;
use super::others::OtherCommits;
use super::pace::Pace;
use super::resend::Resent;
use super::status::{BufferStatus, Watermarks};
use super::store::Store;
use super::wal::Accepted;
use super::{BufferError, ReadLimit};
use crate::model::{AlarmRecord, Commit, Epoch, Gap, Lane, Records, Row, Sequence, SeriesId, SeriesInfo, Timestamp};

/// Requests taken from the channel at once; alarms among them share a flush.
const REQUESTS_AT_ONCE: usize = 64;

/// Alarms within this time share a flush: a flood of them must not keep a slow card busy with nothing else.
const ALARMS_SHARE: Duration = Duration::from_millis(20);

/// How long to leave a disk alone that does not take anything.
const RETRY: Duration = Duration::from_secs(1);

pub(super) type Reply<T> = oneshot::Sender<Result<T, BufferError>>;

/// What the thread is asked to do.
pub(super) enum Request {
    Append(Accepted),
    RuleState(Reply<Vec<u8>>),
    AppendGap(Gap),
    Read { lane: Lane, from: Sequence, until: Sequence, limit: ReadLimit, reply: Reply<Vec<Commit>> },
    Recent { from: Timestamp, after: Sequence, limit: ReadLimit, reply: Reply<Vec<Commit>> },
    ReadOther { limit: ReadLimit, reply: Reply<Option<OtherCommits>> },
    Delivered { epoch: Epoch, lane: Lane, first: Sequence, last: Sequence },
    Overview(Reply<Overview>),
    SendAgain { lane: Lane, runs: Vec<(u64, u64)>, reply: Reply<Resent> },
    ReadAgain { lane: Lane, from: Sequence, limit: ReadLimit, reply: Reply<Vec<Commit>> },
    SentAgain { lane: Lane, first: Sequence, last: Sequence },
    Page { lane: Lane, span: HistorySpan, from: Sequence, reply: Reply<Page> },
    Register { series: Vec<SeriesInfo>, reply: Reply<Vec<SeriesId>> },
    Catalogue(Reply<Catalogue>),
    Flush(Reply<()>),
    Close(Reply<()>),
}

/// State of the thread.
pub(super) struct Keeper {
    store: Store,
    open: OpenCommit,
    pace: Pace,
    /// When what waits now has to be durable.
    due: Option<Instant>,
    save_now: bool,
    /// When alarms that wait have to be durable.
    urgent_due: Option<Instant>,
    /// Not before this the next flush for alarms alone.
    urgent_next: Option<Instant>,
    delivered: bool,
    delivered_since_save: bool,
    flushes: Vec<Reply<()>>,
    watermarks: watch::Sender<Watermarks>,
    status: watch::Sender<BufferStatus>,
}

impl Keeper {
    pub(super) fn new(
        mut store: Store,
        pace: Pace,
    ) -> (Self, watch::Receiver<Watermarks>, watch::Receiver<BufferStatus>) {
        let (watermarks, watermarks_seen) = watch::channel(store.watermarks());
        let (status, status_seen) = watch::channel(store.status(pace.interval()));
        let open = OpenCommit::new(store.clock_reading());
        let keeper = Self {
            store,
            open,
            pace,
            // What came up when it was opened, but not before those who start have asked what they need.
            due: Some(Instant::now() + pace.interval().min(RETRY)),
            save_now: false,
            urgent_due: None,
            urgent_next: None,
            delivered: false,
            delivered_since_save: false,
            flushes: Vec::new(),
            watermarks,
            status,
        };
        (keeper, watermarks_seen, status_seen)
    }

    /// Serves until it is told to close or nobody is left to ask, then makes everything durable.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) -> Result<(), BufferError> {
        // A runtime of this thread's own, for nothing but to wait for a request or a time.
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let waiting = waiting.map_err(|error| BufferError::NotWritable { reason: error.to_string() })?;
        let mut taken = Vec::with_capacity(REQUESTS_AT_ONCE);
        let mut close: Option<Reply<()>> = None;
        while close.is_none() {
            let received = requests.recv_many(&mut taken, REQUESTS_AT_ONCE);
            let count = waiting.block_on(async {
                match self.due.into_iter().chain(self.urgent_due).min() {
                    Some(due) => timeout_at(due.into(), received).await.ok(),
                    None => Some(received.await),
                }
            });
            if count == Some(0) {
                break;
            }
            self.look_at_clock();
            for request in taken.drain(..) {
                close = self.serve(request).or(close);
            }
            self.save_if_due();
            if self.store.is_stuck() {
                return Err(self.store.not_writable());
            }
        }
        requests.close();
        self.close_open_commit();
        self.save();
        let result = if self.store.has_unsaved() { Err(self.store.not_writable()) } else { Ok(()) };
        if result.is_ok() {
            self.store.wal.remove();
        }
        drop(self.store);
        if let Some(reply) = close {
            reply.send(result.clone()).ok();
        }
        result
    }

    /// Does what is asked. Gives back the reply of a request to close: it is answered when the database is closed.
    fn serve(&mut self, request: Request) -> Option<Reply<()>> {
        match request {
            Request::Append(Accepted { rows, alarms, state, room }) => {
                self.append(rows);
                self.append_alarms(&alarms);
                if let Some(state) = state {
                    self.store.set_rule_state(state);
                }
                drop(room);
            }
            Request::RuleState(reply) => drop(reply.send(Ok(self.store.rule_state.value().to_vec()))),
            Request::AppendGap(gap) => drop(self.store.close(gap.lane, &Records::Gap(gap))),
            // The asker may be gone; then nobody misses the answer.
            Request::Read { lane, from, until, limit, reply } => {
                drop(reply.send(self.store.read(lane, from, until, limit)));
            }
            Request::Recent { from, after, limit, reply } => {
                drop(reply.send(self.store.recent(from, after, limit)));
            }
            Request::SendAgain { lane, runs, reply } => {
                drop(reply.send(Ok(self.store.send_again(lane, &runs))));
                self.delivered = true;
            }
            Request::ReadAgain { lane, from, limit, reply } => {
                drop(reply.send(self.store.read_again(lane, from, limit)));
            }
            Request::SentAgain { lane, first, last } => {
                self.store.sent_again(lane, first, last);
                self.delivered = true;
            }
            Request::Overview(reply) => drop(reply.send(self.store.overview())),
            Request::Page { lane, span, from, reply } => drop(reply.send(self.store.page(lane, span, from))),
            Request::ReadOther { limit, reply } => drop(reply.send(Ok(self.store.read_other(limit)))),
            Request::Delivered { epoch, lane, first, last } => {
                self.store.delivered(epoch, lane, first, last);
                self.delivered = true;
                self.delivered_since_save = true;
            }
            Request::Register { series, reply } => drop(reply.send(self.store.register(&series))),
            Request::Catalogue(reply) => drop(reply.send(Ok(self.store.catalogue()))),
            Request::Flush(reply) => {
                self.flushes.push(reply);
                self.save_now = true;
            }
            Request::Close(reply) => return Some(reply),
        }
        None
    }

    fn append(&mut self, rows: Vec<Row>) {
        let (monotonic, store) = (self.store.monotonic(), &mut self.store);
        self.open.append(rows, 0, monotonic, &mut |rows, clock| store.close_rows(rows, clock));
    }

    fn look_at_clock(&mut self) {
        let (now, monotonic) = (self.store.clock_reading(), self.store.monotonic());
        let store = &mut self.store;
        self.open.see(now, monotonic, &mut |rows, clock| store.close_rows(rows, clock));
        self.store.settle_clock(now);
    }

    fn append_alarms(&mut self, alarms: &[AlarmRecord]) {
        for alarms in alarms.chunks(ALARMS_PER_COMMIT) {
            self.store.close_alarms(alarms);
        }
        if !alarms.is_empty() {
            let now = Instant::now();
            self.urgent_due.get_or_insert(self.urgent_next.map_or(now, |next| next.max(now)));
        }
    }

    fn save_if_due(&mut self) {
        let now = Instant::now();
        if self.urgent_due.is_some_and(|due| due <= now) {
            self.save_now = true;
            self.urgent_next = Some(now + ALARMS_SHARE);
        }
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due || self.save_now || self.store.is_save_due() {
            // Alarms do not close the open commit of readings: they would make many small ones of it.
            if is_due || !self.flushes.is_empty() {
                self.close_open_commit();
            }
            self.save();
            if is_due {
                self.pace.saved(self.store.backlog_bytes(), std::mem::take(&mut self.delivered_since_save));
            }
        } else if self.delivered || self.store.is_in_trouble() {
            self.publish();
        }
        let has_work = !self.open.is_empty() || self.store.has_unsaved();
        if self.store.is_in_trouble() {
            self.due = self.due.filter(|due| *due > now).or(Some(now + RETRY));
        } else if has_work {
            self.due = self.due.filter(|_| !is_due).or(Some(now + self.pace.interval()));
        } else {
            self.due = None;
        }
    }

    fn close_open_commit(&mut self) {
        let store = &mut self.store;
        self.open.close(&mut |rows, clock| store.close_rows(rows, clock));
    }

    fn save(&mut self) {
        self.save_now = false;
        self.urgent_due = None;
        let is_saved = self.store.save();
        // Who waited for the flush finds its result in the watermarks.
        self.publish();
        for reply in self.flushes.drain(..) {
            reply.send(if is_saved { Ok(()) } else { Err(self.store.not_writable()) }).ok();
        }
    }

    fn publish(&mut self) {
        self.delivered = false;
        let status = self.store.status(self.pace.interval());
        let watermarks = status.watermarks;
        self.watermarks.send_if_modified(|seen| std::mem::replace(seen, watermarks) != watermarks);
        self.status.send_if_modified(|seen| {
            let is_new = *seen != status;
            *seen = status;
            is_new
        });
    }
}
