//! # Wait for a condition: Notify
//!
//! A task must wait until others have brought some state to a certain point, and then often take
//! from it: an order until all its parts are in stock, a writer until there is room. That is what
//! a condition variable does for threads. This one is for tasks: the state in a std `Mutex`, never
//! held across an await, and a [`Notify`] that says when to look again. No wakeup is lost.
//!
//! ## Use it when
//! - the condition is about several facts at once, or what was waited for must be taken in the same
//!   step, so that no other waiter takes it too;
//! - waiters wait for different things.
//!
//! ## Use something else when
//! - waiters only read: `tokio::sync::watch` and its `wait_for`;
//! - what is waited for is a number of permits: a `Semaphore` wakes only those it serves, in turn;
//!   see `limit_concurrency`;
//! - what is waited for is the next item: a channel, as in `work_queue`.
//!
//! ## Add to your project
//! ```console
//! cargo add tokio --features rt,sync
//! ```
//!
//! ## Watch out
//! - `while !ready() { notify.notified().await }` sleeps for ever if the change and its
//!   `notify_waiters` come between the two, as in `lost_wakeup`. Make the `Notified` first, then look,
//!   then await it.
//! - `notify_waiters` keeps nothing for later, but reaches each `Notified` that exists, polled or
//!   not. `notify_one` keeps one permit, however often it is called, and counts as waiting only
//!   what was polled or `enable`d: two calls before two unpolled waiters wake one.
//! - `notify_one` wakes the one that has waited longest, even if it waits for something else, and
//!   the right one sleeps on. Here an update wakes all, so each update costs a look per waiter.
//! - A waiter that is dropped after `notify_one` woke it passes it on. One whose `enable` returned
//!   true took the permit with it: dropped now, the permit is lost.
//! - There is no queue: a newcomer may take what a waiter was woken for, and one that needs much
//!   starves behind many that need little.
//! - Nobody left to update is no reason for a wait to end. Make the end a part of the state
//!   (`closed: bool`) and look for it too, or set a deadline.
//! - The closures run under the lock: keep them short. One that calls its own monitor deadlocks.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::coop::consume_budget;

/// State that tasks change, and whose changes they wait for. Share it by reference or in an `Arc`.
#[derive(Debug, Default)]
pub struct Monitor<T> {
    state: Mutex<T>,
    changed: Notify,
}

impl<T> Monitor<T> {
    /// Makes a monitor around the initial state.
    #[must_use]
    pub fn new(state: T) -> Self {
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// Waits until `look` returns something, and returns it.
    ///
    /// `look` is called at once, and again after each update, until it returns `Some`. It may take
    /// from the state what it returns: that is an update too, and makes the other waiters look.
    /// A `look` that returns `None` must leave the state as it was: nobody hears of a change.
    ///
    /// # Panics
    ///
    /// If `look` does. What it had changed stays changed, and the other waiters look again.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has taken nothing, and no other waiter misses an update.
    pub async fn wait_until<R>(&self, mut look: impl FnMut(&mut T) -> Option<R>) -> R {
        // `Notify` spends no budget: without this, a loop of waits that need not wait never yields.
        consume_budget().await;
        loop {
            // Before the look: an update that comes after the look ends the wait below.
            let changed = self.changed.notified();
            if let Some(found) = self.visit(&mut look, Option::is_some) {
                return found;
            }
            changed.await;
        }
    }

    /// Changes the state, and makes every waiter look at it. Needs no runtime.
    ///
    /// # Panics
    ///
    /// If `change` does. What it had changed stays changed, and the waiters look at it.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        self.visit(change, |_| true)
    }

    /// Looks at the state, and wakes nobody.
    ///
    /// # Panics
    ///
    /// If `look` does.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        self.visit(|state| look(state), |_| false)
    }

    /// Runs `visit` under the lock, then wakes all waiters if `changed` says so of its result.
    fn visit<R>(&self, visit: impl FnOnce(&mut T) -> R, changed: impl FnOnce(&R) -> bool) -> R {
        // Made before the lock is taken, so dropped after it is free, by a panic as well.
        let mut wake = WakeAll(Some(&self.changed));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = visit(&mut state);
        if !changed(&result) {
            wake.0 = None;
        }
        result
    }
}

/// Wakes every waiter when it is dropped, unless it was emptied.
struct WakeAll<'a>(Option<&'a Notify>);

impl Drop for WakeAll<'_> {
    fn drop(&mut self) {
        if let Some(changed) = self.0 {
            changed.notify_waiters();
        }
    }
}
