//! # Unmanaged: a pool of things that are no connections
//!
//! A licence for four users, a handful of worker processes, some big buffers: there are so many of
//! them and no more, and each serves one at a time. `deadpool::unmanaged` lends them out and has them
//! back when the loan is dropped, also by a panic or a cancelled task. What it lacks is a look at what
//! comes back: here each thing is checked in, and cleaned, mended or thrown out.
//!
//! ## Use it when
//! - the things exist before the pool does, or are made seldom and by hand;
//! - a user needs one for itself, and waits for its turn if none is free.
//!
//! ## Use something else when
//! - the pool should make and check them, in async code: `deadpool_pool`, `bb8_pool`;
//! - only their number matters: a semaphore is enough; one serves many at once: share it in an `Arc`.
//!
//! ## Add to your project
//! ```console
//! cargo add deadpool --features rt_tokio_1
//! cargo add thiserror
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - `Pool::from(things)` has neither a time limit nor a runtime: `get` waits for ever, and
//!   `timeout_get` with a limit is `NoRuntimeSpecified`, whatever the runtime it runs in.
//! - `add` to a full pool waits without a limit, and what was made by `Pool::from` is full: `try_add`.
//! - What a panicking user leaves goes back as it is, half changed. `Object::take` keeps it out: the
//!   pool is smaller from then on, and once it is empty, every `get` waits in vain.
//! - `close` in one thread while another is in `get` can panic there, between its permit and its
//!   thing, and poisons the pool's lock. Here a lock keeps the two apart.
//! - What was returned last is lent first. With little to do, the others are never used: what must be
//!   kept alive by use may die there. `status().waiting` is always 0.

use std::fmt;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::unmanaged::{Object, Pool, PoolConfig, PoolError};
use thiserror::Error;

/// Gets what comes back and whether its user panicked; says whether it may be lent again.
type CheckIn<T> = Box<dyn Fn(&mut T, bool) -> bool + Send + Sync>;

/// A fixed number of things, each lent to one user at a time. Clones share them.
#[derive(Debug)]
pub struct Lender<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    pool: Pool<T>,
    wait: Duration,
    check_in: CheckIn<T>,
    /// Held while a thing is taken or added, and while the pool is closed.
    gate: Mutex<()>,
}

/// A thing on loan. Dropping it checks it in.
#[derive(Debug)]
pub struct Loan<T> {
    thing: Option<Object<T>>,
    shared: Arc<Shared<T>>,
}

/// Why there is no loan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LoanError {
    /// All are on loan, or were thrown out.
    #[error("none of the {size} things was free within {waited:?}")]
    NoneFree {
        /// How many there are, on loan or not.
        size: usize,
        /// How long this one has waited.
        waited: Duration,
    },
    /// The lender is closed.
    #[error("the lender is closed")]
    Closed,
}

/// No place is free, or the lender is closed. Here is the thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("there is no place for another thing")]
pub struct NotAdded<T>(pub T);

impl<T> Lender<T> {
    /// Lends these things. [`borrow`](Self::borrow) waits for one as long as `wait`.
    ///
    /// `check_in` is called with each thing that comes back, and whether its user panicked with it in
    /// hand. It may clean or replace it in its place, and says whether it may be lent again: `false`,
    /// or a panic, drops it and frees its place. It runs in the drop of the loan: it should not block.
    #[must_use]
    pub fn new<F>(things: Vec<T>, wait: Duration, check_in: F) -> Self
    where
        F: Fn(&mut T, bool) -> bool + Send + Sync + 'static,
    {
        let mut config = PoolConfig::new(things.len());
        (config.timeout, config.runtime) = (Some(wait), Some(Runtime::Tokio1));
        let shared = Arc::new(Shared {
            pool: Pool::from_config(&config),
            wait,
            check_in: Box::new(check_in),
            gate: Mutex::new(()),
        });
        let lender = Self { shared };
        for thing in things {
            lender.add(thing).ok(); // each has its place
        }
        lender
    }

    /// Adds a thing in the place of one that was thrown out.
    ///
    /// # Errors
    ///
    /// [`NotAdded`], with the thing.
    pub fn add(&self, thing: T) -> Result<(), NotAdded<T>> {
        let _not_while_closing = self.shared.pass_gate();
        let added = self.shared.pool.try_add(thing);
        added.map_err(|(thing, _)| NotAdded(thing))
    }

    /// Borrows a thing, waiting for one in the order of the calls.
    ///
    /// # Errors
    ///
    /// [`LoanError`].
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime with timers, unless the limit is zero.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has borrowed nothing, and loses its place in the queue.
    pub async fn borrow(&self) -> Result<Loan<T>, LoanError> {
        let shared = Arc::clone(&self.shared);
        let mut get = pin!(self.shared.pool.get());
        let got = poll_fn(|cx| {
            let _closed_before_or_after = self.shared.pass_gate();
            get.as_mut().poll(cx)
        });
        match got.await.map(Some) {
            Ok(thing) => Ok(Loan { thing, shared }),
            Err(PoolError::Closed) => Err(LoanError::Closed),
            Err(_) => {
                let (size, waited) = (self.size(), shared.wait);
                Err(LoanError::NoneFree { size, waited })
            }
        }
    }

    /// How many things there are, on loan or not. Fewer than were added: some were thrown out.
    #[must_use]
    pub fn size(&self) -> usize {
        self.shared.pool.status().size
    }

    /// How many are not on loan.
    #[must_use]
    pub fn available(&self) -> usize {
        self.shared.pool.status().available
    }

    /// Drops the things that are here, fails those who wait, and has those on loan dropped when they
    /// come back. The drop of a thing must not use the lender.
    pub fn close(&self) {
        let _nobody_takes = self.shared.pass_gate();
        self.shared.pool.close();
    }
}

impl<T> Shared<T> {
    fn pass_gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Loan<T> {
    fn drop(&mut self) {
        let Some(mut thing) = self.thing.take() else {
            return;
        };
        let panicked = thread::panicking();
        // Caught, since a panic while another unwinds would abort the program.
        let check_in = || (self.shared.check_in)(&mut thing, panicked);
        let may_be_lent = catch_unwind(AssertUnwindSafe(check_in)).unwrap_or(false);
        if !may_be_lent {
            drop(Object::take(thing));
            let size = self.shared.pool.status().size;
            tracing::warn!(panicked, size, "a thing came back broken: thrown out");
        }
    }
}

impl<T> Clone for Lender<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Deref for Loan<T> {
    type Target = T;

    #[expect(clippy::expect_used, reason = "it is there until the drop")]
    fn deref(&self) -> &T {
        self.thing.as_ref().expect("a loan has its thing")
    }
}

impl<T> DerefMut for Loan<T> {
    #[expect(clippy::expect_used, reason = "it is there until the drop")]
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().expect("a loan has its thing")
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.status().fmt(f)
    }
}
