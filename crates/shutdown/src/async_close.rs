//! # Async close: close(self), and a Drop that tells
//!
//! A writer that buffers must be flushed, a connection must say goodbye, a file must be closed, and
//! each of these waits. `Drop` cannot wait. So the end is a method that somebody has to call, and
//! that somebody forgets: an early `?`, a panic, a cancelled task, and the last bytes are gone without
//! a word. This wrapper has the method, gives it a limit, and says so when it was not called.
//!
//! ## Use it when
//! - a writer holds bytes back: `BufWriter`, `tokio::fs::File`, a compressor, a TLS stream;
//! - losing its last bytes has to be noticed.
//!
//! ## Use something else when
//! - the file must be whole after a crash: `durable_write`;
//! - the cleanup is no writer's: hand it to a task, `close_by_drop`;
//! - many things close one after the other: `ordered_stop`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features io-util,time
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - A `BufWriter` that is dropped loses what it holds, without an error. It may hold everything that
//!   was ever written to it.
//! - `tokio::fs::File` reports a failed write only with the *next* operation. Without a flush at the
//!   end, the last error is never seen: see `dropped_file`.
//! - `flush` gives the bytes to the system, `shutdown` also ends the stream; neither makes them
//!   survive a power cut, `sync_all` does.
//! - A `Drop` that blocks until an async close is done panics on a worker thread, or stops it; one
//!   that spawns the close loses it at the end of `main`: both shown in `cleanup_in_drop`.
//! - `std::mem::forget` and a process that exits run no `Drop`: then nothing is told.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// A writer that has to be closed. Write to it as to the writer itself.
///
/// Dropped without [`close`](Self::close), it emits a `tracing` event at level `ERROR`, with its name
/// and the number of bytes that were not flushed. It does not try to save them.
#[derive(Debug)]
pub struct MustClose<W> {
    writer: W,
    state: State,
}

#[derive(Debug)]
struct State {
    name: String,
    unflushed: u64,
    closed: bool,
}

/// The writer could not be closed. The bytes that it held are lost with it.
#[derive(Debug, Error)]
#[error("{name} could not be closed, {unflushed} bytes may not have arrived: {cause}")]
pub struct CloseError {
    /// The writer's name.
    pub name: String,
    /// How many bytes were written to it after the last flush that succeeded. Some of them may have
    /// arrived.
    pub unflushed: u64,
    /// Why.
    #[source]
    pub cause: Cause,
}

/// Why a writer could not be closed.
#[derive(Debug, Error)]
pub enum Cause {
    /// The flush, or the end of the stream, failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It was not done in time: a peer that does not read, a file system that hangs.
    #[error("not done within {0:?}")]
    TimedOut(Duration),
}

impl<W: AsyncWrite + Unpin> MustClose<W> {
    /// Wraps `writer`. The name is for the error and the event.
    #[must_use]
    pub fn new(name: impl Into<String>, writer: W) -> Self {
        let state = State {
            name: name.into(),
            unflushed: 0,
            closed: false,
        };
        Self { writer, state }
    }

    /// How many bytes have been written since the last flush that succeeded.
    pub fn unflushed(&self) -> u64 {
        self.state.unflushed
    }

    /// Flushes, ends the stream, and gives the inner writer back. Takes at most `limit`.
    ///
    /// A writer that is closed cannot be closed again:
    ///
    /// ```compile_fail,E0382
    /// # use std::time::Duration;
    /// # async fn twice() -> Result<(), shutdown::async_close::CloseError> {
    /// let writer = shutdown::async_close::MustClose::new("log", Vec::new());
    /// writer.close(Duration::MAX).await?;
    /// writer.close(Duration::MAX).await?;
    /// # Ok(())
    /// # }
    /// ```
    /// To close one that is borrowed, call `shutdown` of `AsyncWriteExt`; twice does no harm.
    ///
    /// # Errors
    ///
    /// [`CloseError`] if the writer reports an error, or is not done within `limit`.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, the writer is dropped with it, and the event tells.
    pub async fn close(mut self, limit: Duration) -> Result<W, CloseError> {
        let cause = match timeout(limit, self.shutdown()).await {
            Ok(Ok(())) => return Ok(self.writer),
            Ok(Err(error)) => Cause::Io(error),
            Err(_) => Cause::TimedOut(limit),
        };
        self.state.closed = true; // the error tells, so the event need not
        Err(CloseError {
            name: std::mem::take(&mut self.state.name),
            unflushed: self.state.unflushed,
            cause,
        })
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for MustClose<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.writer).poll_write(cx, bytes));
        Poll::Ready(written.inspect(|count| self.state.wrote(*count)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.writer).poll_write_vectored(cx, bytes));
        Poll::Ready(written.inspect(|count| self.state.wrote(*count)))
    }

    fn is_write_vectored(&self) -> bool {
        self.writer.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.writer).poll_flush(cx))?;
        self.state.unflushed = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.writer).poll_shutdown(cx))?;
        self.state.unflushed = 0;
        self.state.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl State {
    fn wrote(&mut self, count: usize) {
        self.unflushed += u64::try_from(count).unwrap_or(u64::MAX);
        self.closed = false; // a file can be written to again
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if !self.closed {
            let Self {
                name, unflushed, ..
            } = self;
            tracing::error!(%name, unflushed, "dropped without being closed");
        }
    }
}
