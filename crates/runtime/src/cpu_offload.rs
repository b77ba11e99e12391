//! # CPU offload: spawn_blocking behind a Semaphore
//!
//! Hashing, compression, parsing, image work: code that computes without an `.await`. On a worker
//! it stops the tasks that share the thread, timers and all. Here it runs beside them, no more
//! jobs at once than there are cores, and a job whose caller has left is told to stop.
//!
//! ## Use it when
//! - a computation takes more than about 100 µs between awaits;
//! - many may be asked for at once, and a caller may give up before its job is done.
//!
//! ## Use something else when
//! - the closure waits, for a file or a driver, rather than computes: `sync_bridge`; it would hold
//!   a core's place and use no core;
//! - it is one long loop over one input, which can be cut up: `rayon`, called from one job;
//! - it takes a few microseconds, as the way to another thread and back does: do it in place.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt,sync
//! cargo add tokio-util --features rt
//! ```
//!
//! ## Watch out
//! - On a worker's own thread, a job stops the timers and sockets of all: `block_in_async` runs it.
//! - Bare `spawn_blocking` starts a thread for each job, up to 512, all after the same few cores: see
//!   `unbounded_spawn_blocking`.
//! - `abort` does not stop a closure that runs, and a permit kept by the caller rather than by the
//!   closure is free again while the closure still computes.
//! - A job that ignores its flag runs to its end and keeps its place until then.
//! - A job that waits for another job of the same [`CpuPool`] can wait for ever.
//! - A paused test clock does not advance while a job runs: a `timeout` around it never fires.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Runs jobs on the runtime's blocking threads, so many at once and the others in the order in
/// which they were first awaited. Clones share the limit; make one for the whole program.
#[derive(Debug, Clone)]
pub struct CpuPool {
    permits: Arc<Semaphore>,
}

/// There is no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JobError {
    /// The job panicked with this message. Its place is free again.
    #[error("the job panicked: {0}")]
    Panicked(String),
    /// The runtime shut down before the job began.
    #[error("the runtime has shut down")]
    RuntimeGone,
}

impl CpuPool {
    /// At most `jobs` run at once.
    #[must_use]
    pub fn new(jobs: NonZeroUsize) -> Self {
        let permits = jobs.get().min(Semaphore::MAX_PERMITS); // more would panic
        Self {
            permits: Arc::new(Semaphore::new(permits)),
        }
    }

    /// As many as the process may use cores, a container's quota respected; 1 if nobody knows.
    #[must_use]
    pub fn per_core() -> Self {
        Self::new(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// Runs `job` as soon as fewer jobs run than the limit, and returns its result.
    ///
    /// The job gets a flag, set when the future returned here is dropped. A long job asks
    /// `is_cancelled()` now and then, about once a millisecond, and returns.
    ///
    /// # Errors
    ///
    /// [`JobError`] if the job panicked or was never run.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or if the system refuses a thread and the runtime has
    /// none for blocking work.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, a job that has not begun is never run, and one that has is told
    /// to stop; **until it returns it runs on and keeps its place**, and its result is dropped.
    pub async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce(&CancellationToken) -> R + Send + 'static,
    ) -> Result<R, JobError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await; // never closed, so no error
        let cancelled = CancellationToken::new();
        let _cancel = cancelled.clone().drop_guard();
        let running = spawn_blocking(move || {
            let _permit = permit; // here and not in the future: the thread is busy until the end
            job(&cancelled)
        });
        AbortOnDropHandle::new(running).await.map_err(JobError::new)
    }
}

impl JobError {
    fn new(error: JoinError) -> Self {
        let Ok(panic) = error.try_into_panic() else {
            return Self::RuntimeGone;
        };
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(text.unwrap_or("no message").to_owned())
    }
}
