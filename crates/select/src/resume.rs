//! # Resume: a future kept across the turns of a loop
//!
//! A loop waits for a long operation and for other things as well. Whatever else happens, `select!`
//! drops the branches that lost; an operation that was called in a branch begins anew in the next
//! turn. With a heartbeat each second, a download of two seconds never ends. The operation has to
//! live outside of the `select!`, and the branch only borrow it. This slot holds it.
//!
//! ## Use it when
//! - one operation at a time runs beside a loop's other events, and its progress must be kept;
//! - it may be started, replaced and cancelled while the loop runs.
//!
//! ## Use something else when
//! - it starts once, before the loop: `let mut work = pin!(work());` and the branch `&mut work`;
//! - there are several at once: `FuturesUnordered` of futures-util, or `join_set`;
//! - it should go on while the loop's own task is busy: spawn it.
//!
//! ## Add to your project
//! Nothing: the standard library is enough.
//!
//! ## Watch out
//! - `r = work() => …` in a loop loses the work each time that another branch wins.
//! - `timeout(limit, work())` in a loop does the same. `timeout(limit, slot.done())` keeps it.
//! - A kept future that has ended must not be awaited again: that panics. The slot is empty then.
//! - The future is polled only while `done` is awaited. In the body of another branch it stands
//!   still, with whatever lock it holds: see `futurelock`.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Holds at most one future, and with it what it has done so far.
///
/// Dropping the slot drops the future.
pub struct Slot<F> {
    future: Option<Pin<Box<F>>>,
}

/// The slot has a future that has not ended. Here is the other one, not begun.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Busy<F>(pub F);

impl<F: Future> Slot<F> {
    /// A slot with nothing in it.
    #[must_use]
    pub const fn new() -> Self {
        Self { future: None }
    }

    /// Puts a future into an empty slot. It begins when [`done`](Self::done) is awaited.
    ///
    /// # Errors
    ///
    /// [`Busy`], with the future, if there is one that has not ended.
    pub fn start(&mut self, future: F) -> Result<(), Busy<F>> {
        if self.is_busy() {
            return Err(Busy(future));
        }
        self.future = Some(Box::pin(future));
        Ok(())
    }

    /// Drops the future that is there, with its progress, and puts this one in its place. Returns
    /// whether there was one.
    pub fn replace(&mut self, future: F) -> bool {
        self.future.replace(Box::pin(future)).is_some()
    }

    /// Drops the future that is there. Returns whether there was one.
    pub fn cancel(&mut self) -> bool {
        self.future.take().is_some()
    }

    /// Whether there is a future that has not ended.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.future.is_some()
    }

    /// Waits until the future ends, and empties the slot. While the slot is empty it waits for ever:
    /// in `select!`, next to the branch that starts something.
    ///
    /// # Panics
    ///
    /// If the future does. The slot is empty then.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it loses nothing: the future stays in the slot with what it has
    /// done, and the next call goes on from there.
    pub async fn done(&mut self) -> F::Output {
        poll_fn(|cx| {
            // Out of the slot while it is polled, so that a panic leaves the slot empty.
            let Some(mut future) = self.future.take() else {
                return Poll::Pending;
            };
            let output = future.as_mut().poll(cx);
            if output.is_pending() {
                self.future = Some(future);
            }
            output
        })
        .await
    }
}

impl<F: Future> Default for Slot<F> {
    fn default() -> Self {
        Self::new()
    }
}

/// By hand, since futures are no `Debug`.
impl<F> fmt::Debug for Slot<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let busy = self.future.is_some();
        f.debug_struct("Slot").field("busy", &busy).finish()
    }
}

impl<F> fmt::Debug for Busy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Busy").finish_non_exhaustive()
    }
}

impl<F> fmt::Display for Busy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the slot is busy: await its end, or replace what it holds")
    }
}

impl<F> std::error::Error for Busy<F> {}
