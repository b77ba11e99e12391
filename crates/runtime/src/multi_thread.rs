//! # Multi-thread runtime: Builder, named, sized and left by a deadline
//!
//! A server's runtime, built by hand: how many worker threads, how many for blocking work, what
//! they are called in a profiler, and how long to wait for them at the end. Settings that cannot
//! work are errors, and leaving ends at its deadline whatever still blocks.
//!
//! ## Use it when
//! - the program serves many connections or uses more than one core;
//! - it must end in time: a deployment kills what does not stop, and says nothing of why.
//!
//! ## Use something else when
//! - `#[tokio::main(flavor = "multi_thread", worker_threads = 4)]` says it all. It is
//!   `Settings { workers: NonZeroUsize::new(4), ..Settings::default() }` with tokio's thread names
//!   and with no deadline at the end; it can set neither those nor the blocking threads;
//! - one thread is enough, or the state is not `Send`: `current_thread`;
//! - the question is how to stop the tasks themselves in good order: `graceful_shutdown`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt-multi-thread
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - Dropping tokio's `Runtime` waits for its blocking closures, for ever if one never returns, and
//!   panics inside of a runtime. [`MultiThread`] does neither.
//! - `Builder::build` panics if `TOKIO_WORKER_THREADS` is no number or 0. If the system refuses a
//!   worker thread it panics too and then never returns: it waits for the workers it has started.
//! - The future given to `block_on` runs on the calling thread, none of the workers. Spawn what is
//!   to run beside them.
//! - Shutting down does not empty the queue of blocking closures: they still run, on the former
//!   workers too. A closure cannot be stopped, nor can a task that blocks its worker.

use std::env::{self, VarError};
use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{Builder, Handle, Runtime};

/// What a runtime is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads that run tasks. `None` is tokio's own choice: the environment's
    /// `TOKIO_WORKER_THREADS`, else [`thread::available_parallelism`].
    pub workers: Option<NonZeroUsize>,
    /// Threads for `spawn_blocking` and files, started as needed on top of the workers. Work
    /// beyond them waits in a queue without a bound.
    pub blocking_threads: NonZeroUsize,
    /// Threads are called by this and a number, in the order in which they are started.
    pub thread_name: String,
    /// How long [`MultiThread::shutdown`], and dropping it, may wait for its threads.
    pub shutdown_limit: Duration,
}

impl Default for Settings {
    /// Tokio's numbers of threads, called `worker-0` and so on, and ten seconds to leave.
    fn default() -> Self {
        Self {
            workers: None,
            blocking_threads: NonZeroUsize::MIN.saturating_add(511),
            thread_name: "worker".to_owned(),
            shutdown_limit: Duration::from_secs(10),
        }
    }
}

/// No runtime was started.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The environment's number of workers is none.
    #[error("TOKIO_WORKER_THREADS must be a whole number from 1 up, not {0:?}")]
    Workers(OsString),
    /// The name of the threads contains a NUL byte.
    #[error("{0:?} cannot name a thread: it contains a NUL byte")]
    ThreadName(String),
    /// The system refuses so many threads.
    #[error("cannot start {0} worker threads")]
    Threads(NonZeroUsize, #[source] io::Error),
    /// The system refuses what input, output and timers need.
    #[error("cannot start the runtime's input, output and timers")]
    Driver(#[from] io::Error),
}

/// The deadline passed with threads still at work. They go on until their work returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{threads} of the runtime's threads still run")]
pub struct StillRunning {
    /// How many are left, workers and blocking threads together.
    pub threads: usize,
}

/// A running multi-thread runtime. Dropping it is [`shutdown`](Self::shutdown) with the result as a
/// `tracing` warning; **threads that block beyond the deadline are left behind.**
#[derive(Debug)]
pub struct MultiThread {
    handle: Handle,
    runtime: Option<Runtime>,
    threads: Arc<AtomicUsize>,
    shutdown_limit: Duration,
}

impl Settings {
    /// Starts the runtime, with timers and input and output if the features of tokio bring them.
    ///
    /// # Errors
    ///
    /// [`BuildError`], with nothing left running.
    pub fn build(&self) -> Result<MultiThread, BuildError> {
        if self.thread_name.contains('\0') {
            return Err(BuildError::ThreadName(self.thread_name.clone()));
        }
        let workers = self.workers.map_or_else(default_workers, Ok)?;
        can_start(workers).map_err(|error| BuildError::Threads(workers, error))?;

        let threads = Arc::new(AtomicUsize::new(0));
        let (started, stopped) = (Arc::clone(&threads), Arc::clone(&threads));
        let (name, number) = (self.thread_name.clone(), AtomicUsize::new(0));
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers.get())
            // tokio adds the workers to it, and must not overflow
            .max_blocking_threads(self.blocking_threads.get().min(usize::MAX / 2))
            .thread_name_fn(move || format!("{name}-{}", number.fetch_add(1, Ordering::Relaxed)))
            .on_thread_start(move || _ = started.fetch_add(1, Ordering::Relaxed))
            .on_thread_stop(move || _ = stopped.fetch_sub(1, Ordering::Relaxed))
            .enable_all()
            .build()?;
        Ok(MultiThread {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            threads,
            shutdown_limit: self.shutdown_limit,
        })
    }
}

/// As tokio chooses it, with an error where tokio panics.
fn default_workers() -> Result<NonZeroUsize, BuildError> {
    match env::var("TOKIO_WORKER_THREADS") {
        Ok(value) => value.parse().map_err(|_| BuildError::Workers(value.into())),
        Err(VarError::NotUnicode(value)) => Err(BuildError::Workers(value)),
        Err(VarError::NotPresent) => {
            Ok(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
        }
    }
}

/// Starts that many threads and ends them again: here a refusal is an error, in `Builder::build`
/// the end. What other processes take in the instant between remains a risk.
fn can_start(threads: NonZeroUsize) -> io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let _closed = gate.lock(); // until all have started, or one has not
        for _ in 0..threads.get() {
            thread::Builder::new().spawn_scoped(scope, || drop(gate.lock()))?;
        }
        Ok(())
    })
}

impl MultiThread {
    /// The way in: `handle().block_on(…)` in `main`, `handle().spawn(…)` from anywhere.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stops the runtime: tasks are dropped at the `.await` they wait in, blocking closures are
    /// waited for until the deadline.
    ///
    /// Where a runtime is entered, on a worker for instance, it must not block and does not wait.
    ///
    /// # Errors
    ///
    /// [`StillRunning`] if threads are left at the deadline, or now if it does not wait.
    pub fn shutdown(mut self) -> Result<(), StillRunning> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), StillRunning> {
        match self.runtime.take() {
            Some(runtime) if Handle::try_current().is_ok() => runtime.shutdown_background(),
            Some(runtime) => runtime.shutdown_timeout(self.shutdown_limit),
            None => return Ok(()),
        }
        match self.threads.load(Ordering::Relaxed) {
            0 => Ok(()),
            threads => Err(StillRunning { threads }),
        }
    }
}

impl Drop for MultiThread {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(threads = error.threads, "runtime dropped, {error}");
        }
    }
}
