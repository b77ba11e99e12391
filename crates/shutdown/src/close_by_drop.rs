//! # Close by drop: the last mpsc sender as the signal
//!
//! Some values have to be gone before a program may go on: buffers lent out, sessions, handles in
//! other threads. Counting them by hand goes wrong at the first early return or panic. Here each
//! holds a guard, and the drop of the last one is the signal; who waits does so up to a limit, and
//! learns how many are left. A guard can also run an async cleanup after a value was dropped, in a
//! task that is waited for in the same way, since `Drop` cannot await.
//!
//! ## Use it when
//! - what has to end is a value, anywhere: in a struct, a closure, a thread that is not tokio's;
//! - dropping a value should release something far away: a lease, a lock, a temporary object.
//!
//! ## Use something else when
//! - it is tasks that have to end, and new ones may come when none is left: `TaskTracker`, which
//!   also counts values by its `token()`, and is done only once it is closed;
//! - the first drop should stop the rest: `CancellationToken::drop_guard`. Here it is the last;
//! - a failure of the cleanup matters, or its end has to be awaited there and then: `async_close`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features rt,sync,time
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - The first guard counts too. Drop it before you wait, or you wait for yourself: `kept_sender`.
//! - A guard is dropped with its struct's fields, in the order of their declaration. In the last one
//!   it tells that the others are gone; in the first one they are not.
//! - An `async move` block takes only the fields that it mentions. The guard in another field stays
//!   outside, and is dropped at the end of that scope. Take the whole: `let session = session;`.
//! - `mem::forget`, or two `Arc`s that own each other, hold a guard for ever. The limit ends the wait.
//! - A runtime that shuts down drops the cleanups that are not done, those whose value still lives
//!   among them, as in `cleanup_in_drop`. Wait for the last guard before `main` returns.
//! - A cleanup is stopped at its next await. One that blocks keeps its thread, whatever the limit.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// While it or a clone of it lives, [`LastDrop::wait`] waits.
#[derive(Debug, Clone)]
#[must_use = "dropped at once, it holds nothing up"]
pub struct Guard {
    _alive: mpsc::Sender<Infallible>,
}

/// Waits for the drop of the last [`Guard`].
#[derive(Debug)]
pub struct LastDrop {
    guards: mpsc::Receiver<Infallible>,
}

/// Starts a cleanup when it, with all of its clones, is dropped. Made by [`Guard::on_drop`].
#[derive(Debug, Clone)]
#[must_use = "dropped at once, it starts the cleanup at once"]
pub struct OnDrop {
    _handle: Guard,
}

/// Some guards are still held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "guards held after {limit:?}: {holders}; a holder does not end, is leaked, or is the waiter itself"
)]
pub struct StillHeld {
    /// How many guards are left. A cleanup that is not done counts as one.
    pub holders: usize,
    /// The limit of the wait.
    pub limit: Duration,
}

/// Makes the first guard, to be cloned for each holder, and the end that waits for all of them.
pub fn close_by_drop() -> (Guard, LastDrop) {
    let (_alive, guards) = mpsc::channel(1); // nothing is ever sent: no value is `Infallible`
    (Guard { _alive }, LastDrop { guards })
}

impl LastDrop {
    /// Waits until every guard is dropped, for `limit` at most. It may be called again.
    ///
    /// # Errors
    ///
    /// [`StillHeld`] with the number of guards left. With a limit of zero it tells the present state.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has changed nothing: the next call waits for the same guards.
    pub async fn wait(&mut self, limit: Duration) -> Result<(), StillHeld> {
        // The count tells how it ended: the last guard may have gone as the limit passed.
        timeout(limit, self.guards.recv()).await.ok();
        match self.holders() {
            0 => Ok(()),
            holders => Err(StillHeld { holders, limit }),
        }
    }

    /// How many guards there are at the moment, cleanups that are not done included.
    #[must_use]
    pub fn holders(&self) -> usize {
        self.guards.sender_strong_count()
    }
}

impl Guard {
    /// Starts a task that awaits `cleanup` when the returned handle is dropped, wherever that happens:
    /// inside or outside of a runtime, in a panic too. Make it a field of the value to clean up after.
    ///
    /// **The cleanup outlives its handle**, by `limit` at most. Then it is stopped, and logged as an
    /// error under its `name`, as it is when it panics or when the runtime shuts down before it is
    /// done. Until its end it holds a clone of this guard.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn on_drop(
        &self,
        name: impl Into<Arc<str>>,
        limit: Duration,
        cleanup: impl Future<Output = ()> + Send + 'static,
    ) -> OnDrop {
        let (_handle, mut handles) = close_by_drop();
        let report = Report {
            name: name.into(),
            ended: false,
            _guard: self.clone(),
        };
        // It waits from now on, so that the drop has nothing to do that could fail.
        tokio::spawn(async move {
            // What is dropped half-way goes from the last to the first: the guard after the cleanup.
            let (mut report, cleanup) = (report, cleanup);
            handles.guards.recv().await;
            // Made inside the block, so that a panic for want of a timer is caught too.
            let ended = AssertUnwindSafe(async { timeout(limit, cleanup).await }).catch_unwind();
            let name = &report.name;
            match ended.await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => tracing::error!(%name, ?limit, "a cleanup was stopped at its limit"),
                Err(panic) => {
                    let text = panic.downcast_ref::<&str>().copied();
                    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                    let message = text.unwrap_or("no message");
                    tracing::error!(%name, panic = message, "a cleanup panicked");
                }
            }
            report.ended = true;
        });
        OnDrop { _handle }
    }
}

/// The cleanup's task, of which nobody has the handle. It says so if it is dropped too early.
struct Report {
    name: Arc<str>,
    ended: bool,
    _guard: Guard,
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.ended {
            let name = &self.name;
            tracing::error!(%name, "a cleanup is lost: the runtime has shut down before its end");
        }
    }
}
