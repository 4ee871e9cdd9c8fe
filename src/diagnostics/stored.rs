//! What the socket answers about the store.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::Instant;

use super::protocol::{Notice, PageHead, ResendAnswer, StoredCatalogue};
use super::socket::send;
use crate::buffer::history::HistorySpan;
use crate::buffer::{BufferError, BufferHandle};
use crate::model::{Lane, Sequence};

pub(super) async fn overview(writer: &mut OwnedWriteHalf, buffer: &BufferHandle) -> io::Result<()> {
    match buffer.overview().await {
        Ok(overview) => send(writer, &overview).await,
        Err(error) => refuse(writer, &error).await,
    }
}

pub(super) async fn catalogue(writer: &mut OwnedWriteHalf, buffer: &BufferHandle) -> io::Result<()> {
    match buffer.catalogue().await {
        Ok(found) => send(writer, &StoredCatalogue { epoch: found.epoch, series: found.series }).await,
        Err(error) => refuse(writer, &error).await,
    }
}

pub(super) async fn page(
    writer: &mut OwnedWriteHalf,
    buffer: &BufferHandle,
    lane: Lane,
    span: HistorySpan,
    from: Sequence,
) -> io::Result<()> {
    let page = match buffer.page(lane, span, from).await {
        Ok(page) => page,
        Err(error) => return refuse(writer, &error).await,
    };
    let commits = page.commits.iter().map(|commit| (commit.sequence, commit.bytes.len())).collect();
    send(writer, &PageHead { commits, next: page.next }).await?;
    for commit in &page.commits {
        writer.write_all(&commit.bytes).await?;
    }
    Ok(())
}

pub(super) async fn resend(
    writer: &mut OwnedWriteHalf,
    buffer: &BufferHandle,
    lane: Lane,
    span: HistorySpan,
) -> io::Result<()> {
    match send_again(buffer, lane, span, Most::default()).await {
        Ok(answer) => send(writer, &answer).await,
        Err(error) => refuse(writer, &error).await,
    }
}

/// How much of a span is sent again at once; everything unless said otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Commits; a page more is possible.
    pub commits: u64,
    /// How long it may be looked for them.
    pub looking: Duration,
}

impl Default for Most {
    fn default() -> Self {
        Self { commits: u64::MAX, looking: Duration::MAX }
    }
}

/// Has what is stored of `span` sent again. Finds it first, so that what is gone is not waited for.
///
/// # Errors
/// The store cannot be read, or not be told; nothing more goes out than would have.
pub async fn send_again(
    buffer: &BufferHandle,
    lane: Lane,
    span: HistorySpan,
    most: Most,
) -> Result<ResendAnswer, BufferError> {
    let (mut runs, mut records, mut commits): (Vec<(u64, u64)>, u64, u64) = (Vec::new(), 0, 0);
    let (begun, mut from) = (Instant::now(), Some(span.first));
    while let Some(begin) = from.filter(|_| commits < most.commits && begun.elapsed() < most.looking) {
        let page = buffer.page(lane, span, begin).await?;
        for commit in &page.commits {
            records += commit.records();
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == commit.sequence.0 => *last += 1,
                Some(_) | None => runs.push((commit.sequence.0, commit.sequence.0)),
            }
        }
        commits += page.commits.len() as u64;
        from = page.next;
    }
    let resent = buffer.send_again(lane, runs.clone()).await?;
    Ok(ResendAnswer { runs, records, resent, next: from })
}

async fn refuse(writer: &mut OwnedWriteHalf, error: &BufferError) -> io::Result<()> {
    send(writer, &Notice::Error(error.to_string())).await
}
