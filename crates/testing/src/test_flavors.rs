//! # Test flavors: current_thread, multi_thread, and a limit for both
//!
//! `#[tokio::test]` runs a test on one thread, production runs on many, and each shows bugs that the
//! other hides. And a test that hangs says nothing at all until somebody kills the whole run. This
//! runs one test body on every flavor of the runtime, as often as you like, each run under a limit in
//! real time, and says which flavor failed in which round, and whether it waits or blocks.
//!
//! ## Use it when
//! - the code spawns tasks and is used on both kinds of runtime, or you do not know on which;
//! - a test is flaky, or hangs now and then: repeat it, and see where.
//!
//! A single thread finds what blocks it: a blocking call or lock that waits for another task, which
//! several threads forgive until all of them are taken. It runs tasks in the order in which they were
//! spawned and only while the body awaits, so it cannot find an order taken for granted, nor a data
//! race between two steps without an await in between. Several threads find those, but only if the
//! threads meet at the wrong moment: repeating makes that likely, never certain.
//!
//! ## Use something else when
//! - every order of the threads' steps must be tried, not some: `explore_interleavings`;
//! - the instants of timers are the point: `paused_clock`, on one thread.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features macros,rt-multi-thread,sync,test-util
//! ```
//! It belongs in your tests: `cargo add --dev` and a file in `tests/` serve as well.
//!
//! ## Watch out
//! - On a multi-thread runtime the body itself is not on a worker, here as in `#[tokio::test]`: with
//!   one worker there are two threads at work.
//! - An assertion in a task whose handle nobody awaits fails no test, on any flavor.
//! - The body runs on a thread of its own, without the thread-local state of the test's: a subscriber
//!   that `tracing::subscriber::set_default` installed there hears nothing.
//! - The body may use `Rc` on any flavor. What it spawns may not: `spawn_local` needs a `LocalSet`
//!   around it, and panics without.
//! - A limit on the runtime's own clock is no limit: code that blocks the thread blocks the timer too.

use std::any::Any;
use std::fmt::{self, Debug, Display};
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::select;
use tokio::sync::oneshot;

/// A kind of runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// One thread, real time: what `#[tokio::test]` is.
    CurrentThread,
    /// One thread, the clock paused: what `#[tokio::test(start_paused = true)]` is.
    Paused,
    /// So many workers, and the body on one more thread.
    MultiThread(NonZeroUsize),
}

impl Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CurrentThread => write!(f, "current-thread"),
            Self::Paused => write!(f, "current-thread, paused"),
            Self::MultiThread(workers) => write!(f, "multi-thread, workers: {workers}"),
        }
    }
}

impl Flavor {
    fn build(self) -> io::Result<Runtime> {
        match self {
            Self::CurrentThread => Builder::new_current_thread().enable_all().build(),
            Self::Paused => {
                let mut builder = Builder::new_current_thread();
                builder.enable_all().start_paused(true).build()
            }
            Self::MultiThread(workers) => {
                let mut builder = Builder::new_multi_thread();
                builder.enable_all().worker_threads(workers.get()).build()
            }
        }
    }
}

/// What went wrong in one run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// The body panicked.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The body awaits something that comes too late or never. It was dropped, and its runtime with it.
    #[error("still waiting after {0:?}: what it awaits comes too late or never")]
    Waiting(Duration),
    /// The body's thread did not get to the next await in time. **If it has not come to its end a
    /// second later, it is left behind as it is, and runs or blocks on until the process ends.**
    #[error("still blocked after {0:?}: a call blocks its thread, or a loop has no await")]
    Blocked(Duration),
    /// The body is done, but the runtime's drop still waits for a blocking task, or for a worker that
    /// does not get to the next await. **Its threads are left behind as they are, until the process
    /// ends.**
    #[error("done, but its runtime does not end within {0:?}: a task blocks a thread of it")]
    NotEnding(Duration),
    /// The system refused a thread or the runtime's resources.
    #[error("not started: {0}")]
    NotStarted(String),
}

/// The first fault of one flavor.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{flavor}, round {round}: {fault}")]
pub struct Failure {
    /// The runtime it happened on.
    pub flavor: Flavor,
    /// In which round, from 1.
    pub round: usize,
    /// What happened.
    pub fault: Fault,
}

/// The flavors that failed. `Debug` shows it like `Display`, so that `unwrap` is readable.
#[derive(Clone, PartialEq, Eq, Error)]
pub struct Failures(
    /// At least one; at most one for each flavor.
    pub Vec<Failure>,
);

impl Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// Runs `body` on each of `flavors` in turn, `rounds` times on a new runtime each, until a round
/// fails. The other flavors are tried all the same.
///
/// `limit` is in real time, and for one run: see [`run_on`].
///
/// # Errors
///
/// [`Failures`], which names each flavor that failed, the round and the fault.
pub fn on_each_flavor(
    flavors: &[Flavor],
    rounds: NonZeroUsize,
    limit: Duration,
    body: impl AsyncFn() + Send + Sync + 'static,
) -> Result<(), Failures> {
    let body = Arc::new(body);
    let first_failure = |&flavor: &Flavor| {
        (1..=rounds.get()).find_map(|round| {
            let body = Arc::clone(&body);
            let fault = run_on(flavor, limit, async move || body().await).err()?;
            Some(Failure {
                flavor,
                round,
                fault,
            })
        })
    };
    let failures: Vec<_> = flavors.iter().filter_map(first_failure).collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failures(failures))
    }
}

/// Runs `body` on a new runtime of this flavor, on a thread of its own, and returns its value once
/// that runtime has ended too. It blocks the caller: use it in a plain `#[test]`.
///
/// The body has `limit` of real time to end in, and its runtime has the same again.
///
/// # Errors
///
/// [`Fault`]. A panic is reported the usual way too, with its place in the code.
pub fn run_on<T: Send + 'static>(
    flavor: Flavor,
    limit: Duration,
    body: impl AsyncFnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let (report, reports) = sync_channel(1);
    let (stop, mut stopped) = oneshot::channel::<()>();
    // A thread, since nothing on the runtime can watch over code that blocks the runtime. It reports
    // to nobody if it comes too late.
    let watched = move || {
        let runtime = match flavor.build() {
            Ok(runtime) => runtime,
            Err(error) => {
                report.send(Err(Fault::NotStarted(error.to_string()))).ok();
                return;
            }
        };
        let run = AssertUnwindSafe(|| {
            runtime.block_on(async {
                select! {
                    biased; // no dice in the order of polls
                    value = body() => Ok(value),
                    _ = &mut stopped => Err(Fault::Waiting(limit)),
                }
            })
        });
        let outcome = catch_unwind(run).unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        let was_stopped = matches!(outcome, Err(Fault::Waiting(_)));
        report.send(outcome).ok();
        if was_stopped {
            runtime.shutdown_background();
        } else {
            drop(runtime); // as at the end of #[tokio::test]: it waits for blocking tasks
        }
    };
    let named = thread::Builder::new().name(flavor.to_string());
    let spawned = named.spawn(watched);
    spawned.map_err(|error| Fault::NotStarted(error.to_string()))?;
    let value = match reports.recv_timeout(limit) {
        Ok(outcome) => outcome?,
        Err(RecvTimeoutError::Disconnected) => {
            return Err(Fault::NotStarted(
                "the runtime's builder panicked".to_owned(),
            ));
        }
        Err(RecvTimeoutError::Timeout) => {
            drop(stop); // heard at the next await, if there is one
            return Err(match reports.recv_timeout(GRACE) {
                Ok(Err(fault)) => fault,    // it heard the stop, or has panicked meanwhile
                _ => Fault::Blocked(limit), // it has ended without hearing it, or still blocks
            });
        }
    };
    match reports.recv_timeout(limit) {
        Err(RecvTimeoutError::Disconnected) => Ok(value), // the thread has ended
        _ => Err(Fault::NotEnding(limit)),
    }
}

/// How long a thread has to hear that it should stop, before it counts as blocked.
const GRACE: Duration = Duration::from_secs(1);

fn panicked(panic: &(dyn Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Fault::Panicked(text.unwrap_or("no message").to_owned())
}
