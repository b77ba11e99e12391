//! # Async lock: tokio::sync::Mutex, changed through a draft
//!
//! Something must stay as it is while a task awaits: a session that is renewed, a balance that is
//! checked with another service before it changes. Tokio's mutex can be held across an `.await`,
//! but it knows no poison: a task that panics or is dropped half way leaves half a change to the
//! next. Here a change is made on a draft, and takes the state's place in one step, at the end.
//!
//! ## Use it when
//! - between reading the state and writing it something must be awaited, one task at a time;
//! - the state is cheap to clone, or its large parts are behind an `Arc`.
//!
//! ## Use something else when
//! - nothing is awaited in between: `short_lock`;
//! - readers must not wait for writers: `read_mostly`;
//! - the state is a connection or a file, which has no copy: `request_reply`, a task that owns it.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features sync,time
//! ```
//!
//! ## Watch out
//! - What is awaited under the lock happens one after the other: 100 callers that each await 10 ms
//!   take 1,000 ms. Awaited before the lock is asked for, 10 ms.
//! - A bare guard that is dropped between two changes, by a panic or a timeout, leaves the first.
//! - Only the draft is undone. A request that was sent stays sent.
//! - An update inside of an update of the same state waits for itself, until its time is up.
//! - The lock goes to who asked first, even if that future is not polled. In a `select!` over
//!   `&mut waiting`, a branch that asks for the same lock waits behind `waiting`, which nobody polls
//!   meanwhile: with the bare mutex for ever, as in `futurelock`. Give `select!` the future itself,
//!   so that it is dropped, and loses its place, before the branch runs.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

/// State that one task at a time changes. All clones are one state.
#[derive(Debug)]
pub struct AsyncLock<T> {
    state: Arc<Mutex<T>>,
}

/// The lock, and a copy of the state to be changed and then [committed](Self::commit). It borrows
/// nothing, so it can move into a task.
///
/// **Dropping it changes nothing**, and frees the lock.
#[derive(Debug)]
#[must_use = "a draft that is not committed changes nothing"]
pub struct Draft<T> {
    state: OwnedMutexGuard<T>, // dropped first: what the draft owns is not destroyed under the lock
    draft: T,
}

/// Somebody else had the lock for all the time that the caller would wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the lock was not free within {waited:?}: hold it for less, wait longer, or shed the call")]
pub struct Busy {
    /// The time that was waited.
    pub waited: Duration,
}

/// Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UpdateError<E> {
    /// The lock was not free in time, so the change was not begun.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The change returned this.
    #[error("the change was given up")]
    Failed(#[source] E),
}

impl<T: Clone> AsyncLock<T> {
    /// Puts `state` under a lock.
    #[must_use]
    pub fn new(state: T) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Waits at most `wait` for the lock, then lets `change` work on a copy of the state, which
    /// becomes the state if the result is `Ok`. Those who wait get the lock in the order in which
    /// they asked for it.
    ///
    /// `wait` does not limit `change`: put a `timeout` around what it awaits, or around all of it.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] if the lock was not free in time, or with the error of `change`.
    ///
    /// # Panics
    ///
    /// If `change` or the state's `clone` does, with nothing changed; outside of a Tokio runtime
    /// with timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has changed nothing and the lock is free for the next.
    pub async fn update<R, E>(
        &self,
        wait: Duration,
        change: impl AsyncFnOnce(&mut T) -> Result<R, E>,
    ) -> Result<R, UpdateError<E>> {
        let mut draft = self.draft(wait).await?;
        let result = change(&mut draft).await.map_err(UpdateError::Failed)?;
        draft.commit();
        Ok(result)
    }

    /// Waits at most `wait` for the lock. The result is for changes that another task ends, and for
    /// a look at the state as it is.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the lock was not free in time.
    ///
    /// # Panics
    ///
    /// If the state's `clone` does; outside of a Tokio runtime with timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has lost its place among those who wait.
    pub async fn draft(&self, wait: Duration) -> Result<Draft<T>, Busy> {
        let lock = Arc::clone(&self.state).lock_owned();
        let state = timeout(wait, lock).await;
        let state = state.map_err(|_| Busy { waited: wait })?;
        let draft = T::clone(&state);
        Ok(Draft { state, draft })
    }
}

impl<T> Draft<T> {
    /// Makes the draft the state, and frees the lock.
    pub fn commit(mut self) {
        mem::swap(&mut *self.state, &mut self.draft);
    }
}

impl<T> Deref for Draft<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.draft
    }
}

impl<T> DerefMut for Draft<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.draft
    }
}

impl<T> Clone for AsyncLock<T> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
        }
    }
}
