//! # Initialiser under cancel: OnceCell::get_or_init within a time limit
//!
//! A connection, a set of keys, a large table: made when first needed, by `get_or_init`, and kept.
//! Each request has a time limit, which is as it should be, and one that is over drops the
//! request's future, and the initialiser in it. The next caller begins anew, with what time it has
//! left.
//!
//! ## You have it when
//! - after a restart every request times out, for minutes, until one has luck or traffic ceases;
//! - the other side sees the same load begun again and again, and broken off;
//! - a longer limit, or one request made by hand, brings it up.
//!
//! ## What it does to you
//! - A load of 250 ms, a request each 50 ms with a limit of 100 ms: within a minute 1,200 requests
//!   time out, and none of the 1,200 loads that were begun is ended.
//! - An initialiser that fails after 250 ms is begun by each who waits, one after the other: the
//!   tenth of ten callers hears of the failure after 2.5 s.
//!
//! ## Use instead
//! - `single_flight`, with the value kept in a `OnceLock` in front, as in the example: who waits goes
//!   on with what a caller who left had begun, and a failure is told to all who wait. Without the
//!   `OnceLock` nothing is kept: 480 of those 1,200 requests are answered, by 240 loads;
//! - load it before the first request is accepted, or in a task of its own, which no request's
//!   limit can drop: `config_watch` for what changes.

use tokio::sync::OnceCell;

/// Something large that is loaded when it is first needed.
#[derive(Debug)]
pub struct Lazy<T> {
    value: OnceCell<T>,
}

impl<T: Clone> Lazy<T> {
    /// Not loaded yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            value: OnceCell::const_new(),
        }
    }

    /// The value, loaded by the first that asks.
    pub async fn get<F: Future<Output = T>>(&self, load: impl FnOnce() -> F) -> T {
        self.value.get_or_init(load).await.clone() // dropped with the caller's future
    }

    /// The value, loaded by the first whose `load` succeeds.
    ///
    /// # Errors
    ///
    /// Those of the caller's own `load`.
    pub async fn try_get<E, F>(&self, load: impl FnOnce() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.value.get_or_try_init(load).await.cloned()
    }
}

impl<T: Clone> Default for Lazy<T> {
    fn default() -> Self {
        Self::new()
    }
}
