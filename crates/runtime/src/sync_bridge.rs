//! # Sync bridge: block_on, spawn_blocking and back
//!
//! Synchronous code has to call something async: a command-line tool, a trait of somebody else's, a
//! callback. Or async code has to call something that blocks, which calls async code in turn. Tokio
//! has a call for each step, and each panics in some place where the others work.
//!
//! ## Use it when
//! - a library is async and its caller is not, or only half;
//! - a blocking library takes callbacks in which you need to await.
//!
//! ## Use something else when
//! - the whole program may be async: `#[tokio::main]`, and no bridge;
//! - what blocks is a computation: `cpu_offload`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features rt,time
//! cargo add tokio-util --features rt
//! ```
//!
//! ## What works where
//! The rows are calls, the columns the places they are made from: a plain thread, one with
//! `Handle::enter` in force, a task or `block_on` of a multi-thread and of a current-thread runtime,
//! and `spawn_blocking`.
//!
//! | | plain | entered | multi-thread | current-thread | `spawn_blocking` |
//! | --- | --- | --- | --- | --- | --- |
//! | `Handle::block_on` | works | works | panics: 1 | panics: 1 | works |
//! | `block_in_place` | works | works | works | panics: 2 | works |
//! | `block_on` in `block_in_place` | works | works | works | panics: 2 | works |
//! | `Sender::blocking_send` | works | works | panics: 3 | panics: 3 | works |
//! | `Receiver::blocking_recv` | works | works | panics: 3 | panics: 3 | works |
//! | `Mutex::blocking_lock` | works | works | panics: 3 | panics: 3 | works |
//! | drop of a `Runtime` | works | works | panics: 4 | panics: 4 | works |
//! | `tokio::spawn` | panics: 5 | works | works | works | works |
//! | `spawn_blocking` | panics: 5 | works | works | works | works |
//! | [`AsyncThread::call`] | works | works | works | works | works |
//!
//! 1. "Cannot start a runtime from within a runtime"
//! 2. "can call blocking only when running on the multi-threaded runtime"
//! 3. "Cannot block the current thread from within a runtime"
//! 4. "Cannot drop a runtime in a context where blocking is not allowed"
//! 5. "there is no reactor running, must be called from the context of a Tokio 1.x runtime"
//!
//! ## Watch out
//! - "Works" is no more than "does not panic". Whatever blocks in a task keeps its thread from all
//!   other tasks: on a current-thread runtime that is everything, the answer it waits for included.
//!   Another crate's `block_on` does not panic, and can wait for ever: see `nested_block_on`.
//!   [`AsyncThread::call`] on the thread of that very bridge is an error, [`CallError::OwnThread`].
//! - `block_in_place` stops the other branches of the same task as well: `join!` and `select!` around
//!   it stand still.
//! - A timer belongs to the runtime in which `sleep` is called, not to the one that awaits it.
//!   `block_on(sleep(d))` on a plain thread panics, and `call(limit, sleep(d))` from a task waits for
//!   the timers of the very thread that it blocks. Write `async { sleep(d).await }`.
//! - Timers of a current-thread runtime run only inside its `block_on`: `Handle::block_on` of another
//!   thread waits for ever for a `sleep` that nobody drives.

use std::any::Any;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::{self, ThreadId};
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::runtime::{Builder, Handle};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

/// A thread with a runtime of its own, for callers that are not async. It can be called from any
/// other thread, async or not, and the runtime that the caller may be in is not touched.
///
/// Dropping it waits for nothing: the thread ends, and drops the futures that are left, **as soon as
/// the one that it polls suspends**.
#[derive(Debug)]
pub struct AsyncThread {
    handle: Handle,
    thread: ThreadId,
    _stop: DropGuard,
}

/// Why a call returned nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// The limit passed first. The future is dropped at its next await.
    #[error("not done within {0:?}")]
    TimedOut(Duration),
    /// [`AsyncThread::call`] was called on the thread itself, which would wait for what only it can
    /// run. Await there, or call from blocking code that runs elsewhere: [`call_blocking`].
    #[error("called from the thread that would have to run it")]
    OwnThread,
    /// The future, or the closure, panicked.
    #[error("the call panicked: {0}")]
    Panicked(String),
    /// The caller of [`call_blocking`] is gone, or the runtime is shutting down.
    #[error("the caller or the runtime is gone")]
    Abandoned,
}

impl AsyncThread {
    /// Starts the thread, with timers and, if the project enables them, sockets.
    ///
    /// # Errors
    ///
    /// If the system gives no thread, or the runtime no resources. A name with a NUL byte in it is
    /// an [`io::ErrorKind::InvalidInput`].
    pub fn start(name: &str) -> io::Result<Self> {
        if name.contains('\0') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a thread's name has no NUL",
            ));
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(stopped))?;
        Ok(Self {
            handle,
            thread: thread.thread().id(),
            _stop: stop.drop_guard(),
        })
    }

    /// Runs `future` on the thread and blocks the caller until it is done, or `within` has passed.
    /// Futures of several callers run side by side.
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`] and [`CallError::Panicked`], and at once [`CallError::OwnThread`] if
    /// called by what runs on the thread, such as a callback of a future given to another call.
    pub fn call<F>(&self, within: Duration, future: F) -> Result<F::Output, CallError>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        if thread::current().id() == self.thread {
            return Err(CallError::OwnThread);
        }
        let (sender, receiver) = sync_channel(1);
        let task = self.handle.spawn(async move {
            let result = AssertUnwindSafe(future).catch_unwind().await;
            // Room for one, sent once: it never blocks. An error means that the caller timed out.
            drop(sender.send(result));
        });
        match receiver.recv_timeout(within) {
            Ok(result) => result.map_err(|panic| panicked(panic.as_ref())),
            Err(RecvTimeoutError::Disconnected) => Err(CallError::Abandoned),
            Err(RecvTimeoutError::Timeout) => {
                task.abort();
                Err(CallError::TimedOut(within))
            }
        }
    }
}

/// Lets blocking code await. It exists only where that works, inside of [`call_blocking`].
#[derive(Debug)]
pub struct Reentry {
    handle: Handle,
    abandoned: CancellationToken,
}

impl Reentry {
    /// Blocks until `future` is done, or `within` has passed, or the caller of [`call_blocking`] is
    /// gone. The future runs here and may borrow; what it spawns goes to the caller's runtime.
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`] and [`CallError::Abandoned`].
    ///
    /// # Panics
    ///
    /// If `future` does.
    pub fn wait<F: Future>(&mut self, within: Duration, future: F) -> Result<F::Output, CallError> {
        // `&mut self` keeps a future from waiting inside of itself, which would panic.
        let limited = async { timeout(within, future).await };
        let ended = self
            .handle
            .block_on(self.abandoned.run_until_cancelled(limited));
        ended
            .ok_or(CallError::Abandoned)?
            .map_err(|_| CallError::TimedOut(within))
    }
}

/// Runs `work`, which may block, on one of the runtime's threads for that, and lets it await through
/// the [`Reentry`] that it is given.
///
/// # Errors
///
/// [`CallError::Panicked`] if `work` panics, [`CallError::Abandoned`] if the runtime shuts down
/// before `work` begins.
///
/// # Panics
///
/// If polled outside of a Tokio runtime.
///
/// # Cancel safety
///
/// Dropped before `work` begins, it is never run. Dropped later, **`work` runs on**, since nothing
/// can stop a thread; but whatever it awaits, now or later, ends with [`CallError::Abandoned`].
pub async fn call_blocking<T: Send + 'static>(
    work: impl FnOnce(&mut Reentry) -> T + Send + 'static,
) -> Result<T, CallError> {
    let abandoned = CancellationToken::new();
    let _guard = abandoned.clone().drop_guard();
    let mut reentry = Reentry {
        handle: Handle::current(),
        abandoned,
    };
    let task = tokio::task::spawn_blocking(move || work(&mut reentry));
    let ended = AbortOnDropHandle::new(task).await;
    ended.map_err(|error| match error.try_into_panic() {
        Ok(panic) => panicked(panic.as_ref()),
        Err(_) => CallError::Abandoned,
    })
}

fn panicked(panic: &(dyn Any + Send)) -> CallError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    CallError::Panicked(text.unwrap_or("no message").to_owned())
}
