//! # Delay: a future by hand, and a combinator over another
//!
//! Most code never needs a `Future` of its own: `async fn` writes them. Where something outside of
//! async code ends a wait, a thread, a callback, a piece of hardware, the missing part is small: keep
//! the waker of whoever polled last, and call it. This one is ended by a thread's clock, and a
//! combinator shows how one future is polled inside another without `unsafe`.
//!
//! ## Use it when
//! - something that is not async must wake a task: a callback, a thread, a C library;
//! - you want to read what `poll`, `Context` and `Waker` do, in forty lines.
//!
//! ## Use something else when
//! - it is a timer: `tokio::time::sleep`, which needs no thread and can be paused in tests;
//! - one value comes from another thread: `tokio::sync::oneshot` is this future, well tested;
//! - `poll_fn`, `join!`, `select!` or `timeout` already combine what you have.
//!
//! ## Add to your project
//! ```console
//! cargo add pin-project-lite
//! ```
//!
//! ## Watch out
//! - A future that returns `Pending` without having stored the waker sleeps for ever.
//! - The waker may be another one at each poll: the future can be moved to another task between two.
//!   Who keeps the first one wakes a task that has left. Keep the latest.
//! - Between the look at the state and the storing of the waker the event can come. Both happen under
//!   one lock here; otherwise look again after storing.
//! - Wake after the lock is let go: the task may be polled at once, on another thread, and want it.
//!   Drop a waker after that, too: with it may go the last owner of a task, and all that the task
//!   holds, the trigger included.
//! - A wake-up is a hint. A future is polled without one, too, and must not take it for the event.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

/// Completes when its [`Trigger`] is pulled or dropped.
#[derive(Debug)]
#[must_use = "a future that nobody polls does nothing"]
pub struct Delay {
    shared: Arc<Mutex<State>>,
}

/// Ends a [`Delay`], from any thread. Dropped without a [`pull`](Self::pull) it ends it as well, with
/// [`End::Dropped`], so that nobody waits for what cannot come.
#[derive(Debug)]
pub struct Trigger {
    shared: Arc<Mutex<State>>,
}

/// How a [`Delay`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The trigger was pulled.
    Pulled,
    /// The trigger was dropped.
    Dropped,
}

#[derive(Debug, Default)]
struct State {
    end: Option<End>,
    /// Of whoever polled last.
    waker: Option<Waker>,
}

/// A delay, and what ends it.
pub fn delay() -> (Trigger, Delay) {
    let shared = Arc::<Mutex<State>>::default();
    let trigger = Trigger {
        shared: Arc::clone(&shared),
    };
    (trigger, Delay { shared })
}

impl Future for Delay {
    type Output = End;

    /// May be polled again after it has completed, and then completes again.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let mut state = lock(&self.shared);
        if let Some(end) = state.end {
            return Poll::Ready(end);
        }
        let is_stored = |waker: &Waker| waker.will_wake(cx.waker());
        if !state.waker.as_ref().is_some_and(is_stored) {
            let old = state.waker.replace(cx.waker().clone());
            drop(state);
            drop(old); // without the lock: it may be the last to own a task that has the trigger
        }
        Poll::Pending
    }
}

impl Trigger {
    /// Ends the delay.
    pub fn pull(self) {
        self.end(End::Pulled);
    }

    fn end(&self, end: End) {
        let waker = {
            let mut state = lock(&self.shared);
            state.end.get_or_insert(end);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake(); // without the lock
        }
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        self.end(End::Dropped); // changes nothing after a `pull`
    }
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pin_project! {
    /// Counts how often the future inside is polled: what `async` blocks cannot see.
    ///
    /// The inner one is pinned wherever this one is, which `pin_project` makes sound without
    /// `unsafe` in this file.
    #[derive(Debug)]
    #[must_use = "a future that nobody polls does nothing"]
    pub struct CountPolls<F> {
        #[pin]
        inner: F,
        polls: u64,
    }
}

impl<F> CountPolls<F> {
    /// Wraps a future.
    pub fn new(inner: F) -> Self {
        Self { inner, polls: 0 }
    }
}

impl<F: Future> Future for CountPolls<F> {
    /// The inner result, and the number of polls that it took.
    type Output = (F::Output, u64);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        *this.polls += 1;
        // The context is passed on: the inner future wakes the task that polls the outer one.
        this.inner.poll(cx).map(|output| (output, *this.polls))
    }
}
