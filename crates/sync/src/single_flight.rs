//! # Single flight: OnceCell per key
//!
//! A popular entry is missing from the cache, and a hundred requests all start to load it. Here the
//! first caller for a key starts the computation, and those who come while it runs wait for the same
//! result. It goes on as long as any of them waits, whoever leaves, and stops when nobody does.
//!
//! ## Use it when
//! - many tasks ask for the same expensive thing at the same time, and one answer serves them all;
//! - a failure is better shared than repeated by each caller in turn.
//!
//! ## Use something else when
//! - one value is computed once and kept: `tokio::sync::OnceCell`;
//! - results are to be kept: put a cache in front, and fill it inside the computation;
//! - each caller must have an effect of its own, as with a payment: do not share it.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features sync
//! ```
//!
//! ## Watch out
//! - With a bare `OnceCell` and `get_or_try_init`, a failed or cancelled initialiser gives way to the
//!   next waiter's, from the start: ten callers of something that takes 100 ms to fail wait up to a
//!   second. Here a failure is everybody's, and a cancelled caller's work is taken over half done. In
//!   `once_cell_init_under_cancel` no caller is served for a minute.
//! - A result may be older than the call: the computation began with an earlier one. After a write,
//!   call [`SingleFlight::forget`], and the next caller gets a computation that begins later.
//! - One caller's task does the work, the others only wait. If that caller's future is kept but not
//!   polled, as by a `select!` on `&mut run` that is busy in another branch, everybody waits with
//!   it. Where that can happen, put `run` in a task, held by an `AbortOnDropHandle`.
//! - A computation that waits for its own key waits for ever and is never freed: it is a caller of
//!   itself. `forget` lets new callers past.
//! - `futures_util::future::Shared` has every caller poll, and can lose the wakeup: all sleep on if
//!   the one that polled is dropped just after the event.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::FutureExt;
use thiserror::Error;
use tokio::sync::OnceCell;

/// Runs at most one computation per key at a time. Share it by reference or in an [`Arc`].
///
/// It keeps no results: a caller that comes after the end starts a new computation. So does one that
/// comes while the last caller of another is leaving; what is dropped then is not polled again.
pub struct SingleFlight<K, T> {
    flights: Flights<K, T>,
}

/// The computation panicked. Every caller that waited for it gets this.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the computation panicked: {message}")]
pub struct Panicked {
    /// The panic's message.
    pub message: String,
}

/// Only callers own a flight: when the last of them leaves, it is dropped.
type Flights<K, T> = Arc<Mutex<HashMap<K, Weak<Flight<T>>>>>;

/// A computation under way, and its result.
struct Flight<T> {
    result: OnceCell<Result<T, Panicked>>,
    /// Locked only by the caller that initialises `result`, and so does the work; if it leaves, the
    /// next initialiser goes on with the same future.
    work: tokio::sync::Mutex<Work<T>>,
}

type Work<T> = Pin<Box<dyn Future<Output = Result<T, Panicked>> + Send>>;

impl<K, T> SingleFlight<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Makes one with nothing under way.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for the result of the computation for `key`, starting it with `compute` if none is
    /// under way; otherwise `compute` is dropped unused.
    ///
    /// All who wait get a clone of the same result. If that is a `Result` with an error that cannot
    /// be cloned, put the error in an [`Arc`]. A deadline is the caller's, around this call.
    ///
    /// # Errors
    ///
    /// [`Panicked`] if the computation did. The next call starts a new one.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is done, another caller that waits goes on with the computation;
    /// **if nobody waits, the computation is dropped with it**.
    pub async fn run<F>(
        &self,
        key: K,
        compute: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T, Panicked>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let flight = self.join(key, compute);
        let work = async || flight.work.lock().await.as_mut().await;
        flight.result.get_or_init(work).await.clone()
    }

    /// Lets the next caller for `key` start a new computation, also while one is under way: those
    /// who wait for that one still get its result.
    pub fn forget(&self, key: &K) {
        lock(&self.flights).remove(key);
    }

    /// How many keys have a computation that a new caller would join.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        lock(&self.flights).len()
    }

    fn join<F>(&self, key: K, compute: impl FnOnce() -> F + Send + 'static) -> Arc<Flight<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(&key).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new_cyclic(|flight| {
            let entry = Entry {
                flights: Arc::clone(&self.flights),
                key: key.clone(),
                flight: flight.clone(),
            };
            let work = async move {
                // Inside the block, so that a panic before the first await is caught too.
                let computed = AssertUnwindSafe(async { compute().await })
                    .catch_unwind()
                    .await;
                drop(entry); // before anybody can have the result: it is for those who came in time
                computed.map_err(|panic| Panicked::new(panic.as_ref()))
            };
            Flight {
                result: OnceCell::new(),
                work: tokio::sync::Mutex::new(Box::pin(work)),
            }
        });
        flights.insert(key, Arc::downgrade(&flight));
        flight
    }
}

/// A flight's place among the others. It is part of the work, so it is given up when the work ends
/// or is dropped.
struct Entry<K: Eq + Hash, T> {
    flights: Flights<K, T>,
    key: K,
    flight: Weak<Flight<T>>,
}

impl<K: Eq + Hash, T> Drop for Entry<K, T> {
    fn drop(&mut self) {
        let mut flights = lock(&self.flights);
        // After a `forget`, or while the last caller was leaving, a newer one may have come.
        if flights
            .get(&self.key)
            .is_some_and(|flight| flight.ptr_eq(&self.flight))
        {
            flights.remove(&self.key);
        }
    }
}

/// Under the lock, of the caller's code only the key's own runs.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, T> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self {
            flights: Arc::default(),
        }
    }
}

impl<K, T> fmt::Debug for SingleFlight<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_flight = lock(&self.flights).len();
        f.debug_struct("SingleFlight")
            .field("in_flight", &in_flight)
            .finish()
    }
}

impl Panicked {
    fn new(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self {
            message: text.unwrap_or("no message").to_owned(),
        }
    }
}
