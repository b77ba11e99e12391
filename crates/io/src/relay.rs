//! # Relay: copy_bidirectional with an idle limit
//!
//! A proxy, a tunnel or a port forward sits between two streams and copies what either side sends
//! to the other, until both are done. It must pass on that one side has finished while the other
//! still answers, must not keep a pair whose peers have vanished, and must say how much it carried.
//!
//! ## Use it when
//! - two streams belong together and their bytes pass unchanged: TCP, TLS, a Unix socket, a pipe.
//!
//! ## Use something else when
//! - you look at what passes, or answer it yourself: `framed_lines`, `framed_length`;
//! - one stream is read and written by your own code: `split_stream`;
//! - neither limit, counts nor a stop matter: `tokio::io::copy_bidirectional` itself.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features io-util,time
//! cargo add tokio-util
//! ```
//!
//! ## Watch out
//! - Two `copy`s in a `select!` lose the answer to a client that half-closes, and in a `try_join!` they
//!   never end: shown in `ignored_half_close`.
//! - Bare `copy_bidirectional` waits for ever for peers that say nothing, and its error has no
//!   counts. `timeout` around it cuts busy connections with the silent ones.
//! - One byte before each limit keeps a relay alive. For a bound on the whole, cancel `stop`.
//! - A peer that stops reading is idle too, once the buffers are full: what is in them is lost. So is
//!   one that reads all the time, but slowly: the kernel makes room once much of its buffer is free,
//!   which may hold megabytes. Let [`Limits::idle`] be longer than the slowest peer takes for that.
//! - An error ends both directions at once. An answer that was on its way back is lost with it, as
//!   when a server refuses an upload half way, answers and closes.
//! - A failure is not passed on. Dropped, a `TcpStream` ends cleanly, so the other peer takes what
//!   it has for the whole. Call `set_zero_linger` on both before the drop, unless the end is
//!   [`End::Finished`]: the peers then get a reset.

use std::future::poll_fn;
use std::io;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How long a relay may be silent and how much it holds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The time in which at least one byte must be read or written, in either direction. Zero ends
    /// the relay as soon as nothing is ready to be moved.
    pub idle: Duration,
    /// Bytes held for each direction, allocated at once. More than [`MAX_BUFFER`] counts as that.
    pub buffer: NonZeroUsize,
}

/// The largest buffer for one direction: 1 MiB.
pub const MAX_BUFFER: usize = 1 << 20;

/// What a relay has carried, and why it ended.
#[derive(Debug)]
#[must_use = "it tells whether the peers have got everything"]
pub struct Report {
    /// From the first stream to the second.
    pub a_to_b: Carried,
    /// From the second stream to the first.
    pub b_to_a: Carried,
    /// Why it ended.
    pub end: End,
}

/// The bytes of one direction. `read - written` of them were in the buffer at the end, and are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Bytes read from the one stream.
    pub read: u64,
    /// Bytes that the other stream took. Its peer need not have received them.
    pub written: u64,
}

/// Why a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both sides finished, and each was told of the other's end. Nothing is lost.
    Finished,
    /// No byte moved for the limit.
    Idle,
    /// The token was cancelled.
    Stopped,
    /// One of the streams failed.
    Failed(Failure),
}

/// A stream failed. The other one may be good still.
#[derive(Debug, Error)]
#[error("cannot {} stream {side:?} any more: drop both", match operation {
    Operation::Read => "read from",
    Operation::Write => "write to",
})]
pub struct Failure {
    /// The stream that failed.
    pub side: Side,
    /// What failed.
    pub operation: Operation,
    /// What the stream said.
    pub source: io::Error,
}

/// One of the two streams, by its place among the parameters of [`relay`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first stream.
    A,
    /// The second stream.
    B,
}

/// What was done to a stream when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A read.
    Read,
    /// A write, a flush or a shutdown.
    Write,
}

/// Copies from each stream to the other until both have ended, and passes the end of each on by
/// shutting down the other's write side. A slow reader holds a fast sender: at most
/// `limits.buffer` bytes wait here for each direction.
///
/// Afterwards, or when it is dropped, the streams are the caller's. After any other end than
/// [`End::Finished`] **drop them**: they are open, and bytes are missing between them.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it loses the bytes in its buffers and the counts; the streams stay
/// usable. To get the counts, cancel `stop` instead.
pub async fn relay<A, B>(a: &mut A, b: &mut B, limits: Limits, stop: &CancellationToken) -> Report
where
    A: AsyncRead + AsyncWrite + Unpin + ?Sized,
    B: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    let moved = AtomicBool::new(false);
    let (mut a, mut b) = (Watched::new(a, &moved), Watched::new(b, &moved));
    let size = limits.buffer.get().min(MAX_BUFFER);
    let copy = copy_bidirectional_with_sizes(&mut a, &mut b, size, size);
    let copied = unless_idle(limits.idle, &moved, copy);
    let end = match stop.run_until_cancelled(copied).await {
        None => End::Stopped,
        Some(None) => End::Idle,
        Some(Some(Ok(_))) => End::Finished,
        Some(Some(Err(source))) => {
            let (side, failed) = match a.failed {
                Some(operation) => (Side::A, Some(operation)),
                None => (Side::B, b.failed),
            };
            End::Failed(Failure {
                side,
                operation: failed.unwrap_or(Operation::Write),
                source,
            })
        }
    };
    Report {
        a_to_b: Carried {
            read: a.read,
            written: b.written,
        },
        b_to_a: Carried {
            read: b.read,
            written: a.written,
        },
        end,
    }
}

/// Awaits `copy`. `None` once it has not set `moved` for `limit`.
async fn unless_idle<T>(
    limit: Duration,
    moved: &AtomicBool,
    copy: impl Future<Output = T>,
) -> Option<T> {
    let mut copy = pin!(copy);
    let mut timer = pin!(sleep(limit));
    let mut last = Instant::now();
    poll_fn(|cx| {
        // Before the timer: bytes that came while this task could not run are no idleness.
        if let Poll::Ready(copied) = copy.as_mut().poll(cx) {
            return Poll::Ready(Some(copied));
        }
        if moved.swap(false, Ordering::Relaxed) {
            last = Instant::now();
        }
        // The timer is left alone while bytes move: when it goes off, it looks how long ago that was.
        while timer.as_mut().poll(cx).is_ready() {
            let left = limit.saturating_sub(last.elapsed());
            if left.is_zero() {
                return Poll::Ready(None);
            }
            timer.set(sleep(left));
        }
        Poll::Pending
    })
    .await
}

/// A stream that counts its bytes and remembers whether its last operation failed.
struct Watched<'a, S: ?Sized> {
    stream: &'a mut S,
    moved: &'a AtomicBool,
    read: u64,
    written: u64,
    failed: Option<Operation>,
}

impl<'a, S: ?Sized> Watched<'a, S> {
    fn new(stream: &'a mut S, moved: &'a AtomicBool) -> Self {
        Self {
            stream,
            moved,
            read: 0,
            written: 0,
            failed: None,
        }
    }

    /// Set and cleared by every operation: an interrupted one is tried again, and that one counts.
    fn note<T>(
        &mut self,
        operation: Operation,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.failed = matches!(result, Poll::Ready(Err(_))).then_some(operation);
        result
    }
}

impl<S: AsyncRead + Unpin + ?Sized> AsyncRead for Watched<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut *self.stream).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.read += bytes as u64;
            self.moved.store(true, Ordering::Relaxed);
        }
        self.note(Operation::Read, result)
    }
}

impl<S: AsyncWrite + Unpin + ?Sized> AsyncWrite for Watched<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut *self.stream).poll_write(cx, bytes);
        let result = match result {
            // `copy_bidirectional` makes an error of it; here it is known whose.
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            other => other,
        };
        if let Poll::Ready(Ok(bytes)) = result {
            self.written += bytes as u64;
            self.moved.store(true, Ordering::Relaxed);
        }
        self.note(Operation::Write, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut *self.stream).poll_flush(cx);
        self.note(Operation::Write, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut *self.stream).poll_shutdown(cx);
        self.note(Operation::Write, result)
    }
}
