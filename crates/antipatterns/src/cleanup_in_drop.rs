//! # Cleanup in Drop: block_on or tokio::spawn in a destructor
//!
//! A log has bytes to flush, a session has to say goodbye, and both wait, so they are async. `Drop`
//! would run whatever happens, and is not. Two ways around that are written again and again: block
//! on the cleanup there, or spawn it. The first ends the process, the second loses the bytes.
//!
//! ## You have it when
//! - a panic says `Cannot start a runtime from within a runtime`, and its backtrace names a `drop`;
//! - the process is gone with signal 6 and `panic in a destructor during cleanup` as its last word;
//! - the last lines of a log, the goodbye of a session, the release of a lease are missing, and
//!   only after a restart or a deployment.
//!
//! ## What it does to you
//! - [`FlushBlocking`] panics when it is dropped in a task, and nothing is flushed.
//! - Dropped because its task panics, it aborts the whole process: a panic on the way out of a
//!   panic.
//! - [`FlushSpawned`], dropped at the end of `main`, flushes nothing: on a runtime of one thread,
//!   no line of 10 writers arrived. The runtime drops the task that was to do it before its first
//!   poll.
//! - Dropped outside of a runtime it panics as well:
//!   `there is no reactor running, must be called from the context of a Tokio 1.x runtime`.
//!
//! ## Use instead
//! - `async_close`: a `close` that is awaited, with a limit, and a `Drop` that tells if it was not;
//! - `close_by_drop` where only `Drop` is sure to come: the cleanup is a task that is waited for.

use tokio::io::{AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::runtime::Handle;

/// A buffered writer that blocks until it is flushed when it is dropped.
#[derive(Debug)]
pub struct FlushBlocking<W: AsyncWrite + Unpin>(pub BufWriter<W>);

impl<W: AsyncWrite + Unpin> Drop for FlushBlocking<W> {
    fn drop(&mut self) {
        Handle::current().block_on(self.0.flush()).ok(); // panics: this thread runs a task
    }
}

/// A buffered writer that has a task flush it when it is dropped.
#[derive(Debug)]
pub struct FlushSpawned<W: AsyncWrite + Unpin + Send + 'static>(pub Option<BufWriter<W>>);

impl<W: AsyncWrite + Unpin + Send + 'static> Drop for FlushSpawned<W> {
    fn drop(&mut self) {
        if let Some(mut writer) = self.0.take() {
            tokio::spawn(async move { writer.flush().await }); // nobody waits for it, nobody hears
        }
    }
}
