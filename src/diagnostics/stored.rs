//! What the socket answers about the store.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;

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

/// Finds what is stored of the span first, so that what is gone is not waited for.
pub(super) async fn resend(
    writer: &mut OwnedWriteHalf,
    buffer: &BufferHandle,
    lane: Lane,
    span: HistorySpan,
) -> io::Result<()> {
    let (mut runs, mut records): (Vec<(u64, u64)>, u64) = (Vec::new(), 0);
    let mut from = Some(span.first);
    while let Some(begin) = from {
        let page = match buffer.page(lane, span, begin).await {
            Ok(page) => page,
            Err(error) => return refuse(writer, &error).await,
        };
        for commit in &page.commits {
            records += commit.records();
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == commit.sequence.0 => *last += 1,
                Some(_) | None => runs.push((commit.sequence.0, commit.sequence.0)),
            }
        }
        from = page.next;
    }
    match buffer.send_again(lane, runs.clone()).await {
        Ok(resent) => send(writer, &ResendAnswer { runs, records, resent }).await,
        Err(error) => refuse(writer, &error).await,
    }
}

async fn refuse(writer: &mut OwnedWriteHalf, error: &BufferError) -> io::Result<()> {
    send(writer, &Notice::Error(error.to_string())).await
}
