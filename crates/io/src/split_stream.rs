//! # Split stream: read and write at once
//!
//! Two programs that each first write everything and then read stand still once the buffers between
//! them are full: each waits for the other to read. So reading must go on while a write waits, which
//! takes two halves of one stream. Then the questions begin: which drop ends what, what the peer
//! hears of it, and whether no more bytes means that all have come.
//!
//! ## Use it when
//! - both peers may speak at any time, or an answer begins before the question has been sent.
//!
//! ## Use something else when
//! - the peers take turns, and what is sent in one turn is small: no split at all;
//! - the bytes pass unchanged to another stream: `relay`;
//! - you only send, or only receive, frames: `framed_lines`, `framed_length`.
//!
//! ## Add to your project
//! ```console
//! cargo add bytes
//! cargo add tokio --features io-util,macros,sync
//! cargo add tokio-util
//! ```
//! Halves come from `TcpStream::split`, `TcpStream::into_split` or, for any other stream and with a
//! lock around each operation, from `tokio::io::split`. A pipe each way does as well.
//!
//! ## Watch out
//! - Send in another task than the one that receives. A task that first sends everything is the old
//!   standstill again, once channels and buffers are full. So is one that answers each thing it
//!   receives, if the peer does that too.
//! - The drop of an `OwnedWriteHalf` ends the stream for the peer, unless it is by `forget`. The drop
//!   of a half from `tokio::io::split` does not: without `shutdown` the peer waits for ever.
//! - The drop of a read half tells nobody: the peer's writes fill the buffers and then wait.
//! - A socket that is closed with bytes unread resets the connection, and the kernel throws away
//!   what the peer has not been sent yet. Receive up to [`Received::End`], even if you don't care.
//! - Cut short, a dropped socket still ends cleanly for the peer, which takes what it has for the
//!   whole. Pass the halves of `TcpStream::split`, and unless [`Report::writing`] is
//!   [`WriteEnd::Finished`] call `set_zero_linger` before the drop: the peer then gets a reset.
//! - Each item is a write of its own. For many small ones put the writer into a `BufWriter`: it is
//!   flushed whenever `outgoing` is empty.

use std::io;
use std::num::NonZeroUsize;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::{join, select};
use tokio_util::sync::CancellationToken;

/// The largest chunk that is read at once: 1 MiB.
pub const MAX_CHUNK: usize = 1 << 20;

/// What [`full_duplex`] sends to `incoming`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The next bytes, at least one. Their boundaries are not those of the peer's writes.
    Bytes(Bytes),
    /// The peer has finished, and everything was received. **A channel that ends without this was
    /// cut short**, by a failure, a stop or a drop.
    End,
}

/// How both directions ended.
#[derive(Debug)]
#[must_use = "it tells whether everything was received and sent"]
pub struct Report {
    /// Bytes passed to `incoming`.
    pub received: u64,
    /// Bytes that the writer took. The peer need not have received them.
    pub sent: u64,
    /// Bytes from `outgoing` that the writer did not take. They are lost, and so is what is sent after
    /// the end on a place that was reserved before, which nobody counts.
    pub unsent: u64,
    /// Why reading ended.
    pub reading: ReadEnd,
    /// Why writing ended.
    pub writing: WriteEnd,
}

/// Why reading ended.
#[derive(Debug)]
pub enum ReadEnd {
    /// The peer finished: [`Received::End`] was sent.
    End,
    /// A read failed, for instance because the peer reset the connection. Bytes may be missing.
    Failed(io::Error),
    /// The receiver of `incoming` was dropped or closed.
    Unwanted,
    /// The token was cancelled.
    Stopped,
}

/// Why writing ended.
#[derive(Debug)]
pub enum WriteEnd {
    /// The senders of `outgoing` were dropped, everything was written, and the peer was told.
    Finished,
    /// A write, a flush or the shutdown failed.
    Failed(io::Error),
    /// The token was cancelled, or reading failed.
    Stopped,
}

/// Passes what `reader` reads to `incoming`, and writes what comes from `outgoing`, neither waiting
/// for the other, until both directions have ended.
///
/// - When the last sender of `outgoing` is dropped, the rest is written, and the writer shut down and
///   dropped. Reading goes on until the peer finishes.
/// - When the peer finishes, writing goes on until the senders of `outgoing` are dropped.
/// - When a write fails, `outgoing` is closed, so that its senders learn of it, and reading goes on:
///   the peer may have said why. When a read fails, writing ends too.
/// - When `incoming` is full, nothing is read, and in the end the peer's writes have to wait.
///
/// At most `chunk` bytes are read at once; more than [`MAX_CHUNK`] counts as that. So `incoming`
/// holds at most its capacity times `chunk` bytes. A peer may keep silent for ever: to bound the
/// time, cancel `stop`.
///
/// # Cancel safety
///
/// Dropped before it is done, it loses what is in `outgoing` and what a buffering `writer` holds;
/// what was read is all in `incoming`.
pub async fn full_duplex<R, W>(
    mut reader: R,
    mut writer: W,
    chunk: NonZeroUsize,
    incoming: mpsc::Sender<Received>,
    mut outgoing: mpsc::Receiver<Bytes>,
    stop: &CancellationToken,
) -> Report
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let chunk = chunk.get().min(MAX_CHUNK);
    let stop_writing = stop.child_token();
    let read = async {
        let mut received = 0;
        let reading = read_all(&mut reader, chunk, &incoming, &mut received);
        let reading = stop.run_until_cancelled(reading).await;
        let reading = reading.unwrap_or(ReadEnd::Stopped);
        if matches!(reading, ReadEnd::Failed(_)) {
            stop_writing.cancel();
        }
        drop(incoming); // the receiver need not wait for the other direction to see that this is all
        (received, reading)
    };
    let write = async {
        let (mut sent, mut rest) = (0, Bytes::new());
        let writing = write_all(&mut writer, &mut outgoing, &mut rest, &mut sent);
        let writing = match stop_writing.run_until_cancelled(writing).await {
            Some(Ok(())) => WriteEnd::Finished,
            Some(Err(error)) => WriteEnd::Failed(error),
            None => WriteEnd::Stopped,
        };
        drop(writer); // a pipe tells its end by nothing else
        outgoing.close();
        let mut unsent = rest.len() as u64;
        while let Ok(bytes) = outgoing.try_recv() {
            unsent += bytes.len() as u64;
        }
        (sent, unsent, writing)
    };
    let ((received, reading), (sent, unsent, writing)) = join!(read, write);
    Report {
        received,
        sent,
        unsent,
        reading,
        writing,
    }
}

async fn read_all(
    reader: &mut (impl AsyncRead + Unpin),
    chunk: usize,
    incoming: &mpsc::Sender<Received>,
    received: &mut u64,
) -> ReadEnd {
    let mut buffer = BytesMut::new();
    loop {
        // A place first: bytes that were read while there is none would be lost with this future.
        let Ok(place) = incoming.reserve().await else {
            return ReadEnd::Unwanted;
        };
        if buffer.capacity() == 0 {
            buffer = BytesMut::with_capacity(chunk); // the last one's chunks share its memory
        }
        let read = select! {
            biased;
            () = incoming.closed() => return ReadEnd::Unwanted,
            read = reader.read_buf(&mut buffer) => read,
        };
        match read {
            Ok(0) => {
                place.send(Received::End);
                return ReadEnd::End;
            }
            Ok(bytes) => {
                *received += bytes as u64;
                place.send(Received::Bytes(buffer.split().freeze()));
            }
            Err(error) => return ReadEnd::Failed(error),
        }
    }
}

/// What of the current item is not written stays in `rest`, to be counted if this is cut short.
async fn write_all(
    writer: &mut (impl AsyncWrite + Unpin),
    outgoing: &mut mpsc::Receiver<Bytes>,
    rest: &mut Bytes,
    sent: &mut u64,
) -> io::Result<()> {
    while let Some(bytes) = outgoing.recv().await {
        *rest = bytes;
        while rest.has_remaining() {
            match writer.write_buf(rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                bytes => *sent += bytes as u64,
            }
        }
        if outgoing.is_empty() {
            writer.flush().await?;
        }
    }
    writer.shutdown().await
}
