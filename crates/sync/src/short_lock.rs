//! # Short lock: std::sync::Mutex, without its guard
//!
//! Tasks share a map, a counter, a cache: read and changed in a few steps that wait for nothing. A
//! blocking mutex is the right lock for that, as long as its guard never lives across an `.await`
//! and a panic half way is noticed. Here the state is only reachable inside a closure that is not
//! async, so neither is left to the reviewer.
//!
//! ## Use it when
//! - the critical section is a few lines of memory access: no await, no I/O, no long computation.
//!
//! ## Use something else when
//! - the state must not change while something is awaited: `async_lock`;
//! - nearly all access is reading: `read_mostly`;
//! - it is one number: an atomic; it has an owner that does I/O with it: `request_reply`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! ```
//!
//! ## Watch out
//! - A guard of the bare mutex that lives across an `.await` stops the thread on which the next task
//!   asks for the lock, timers included, and if the guard's owner needs that thread, for ever: see
//!   `guard_across_await`. `tokio::spawn` refuses it. `block_on`, `join!` and local tasks do not:
//!   clippy's `await_holding_lock` does.
//!
//!   ```compile_fail,E0277
//!   fn may_be_kept_across_an_await<T: Send>() {}
//!   may_be_kept_across_an_await::<std::sync::MutexGuard<'_, u8>>();
//!   ```
//! - `lock().unwrap()` turns one panic into a panic of each later caller, and
//!   `lock().unwrap_or_else(PoisonError::into_inner)` goes on with what it left half changed.
//! - [`Shared::with`] inside of `with` on the same state is a deadlock. So are two states, taken in
//!   one order here and in the other there. Call no foreign code in the closure.
//! - Who waits for the lock stops the whole thread, other tasks included. Bring what the closure
//!   needs, and compute with what it returns.

use std::fmt;
use std::sync::{Arc, Mutex};

use thiserror::Error;

/// State that tasks and threads share. Clone it for each of them: all clones are one state.
pub struct Shared<T> {
    state: Arc<Mutex<T>>,
}

/// A closure panicked while it had the state, so it may be half changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a panic may have left the shared state half changed: mend it in `heal`, or stop")]
pub struct Poisoned;

impl<T> Shared<T> {
    /// Shares `state`.
    #[must_use]
    pub fn new(state: T) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Calls `access` with the state and returns what it returns. Nobody else has the state
    /// meanwhile. **Asking for the same state in `access` is a deadlock.**
    ///
    /// No borrow of the state gets out, be it as a result or in a future:
    ///
    /// ```compile_fail,E0308
    /// # use sync::short_lock::Shared;
    /// fn first(names: &mut Vec<String>) -> &mut String { &mut names[0] }
    /// Shared::new(vec![String::new()]).with(first);
    /// ```
    /// ```compile_fail,E0308
    /// # use sync::short_lock::Shared;
    /// Shared::new(vec![7]).with(async |numbers| numbers.push(8));
    /// ```
    /// ```compile_fail,E0521
    /// # use sync::short_lock::Shared;
    /// let mut kept = None;
    /// Shared::new(7).with(|state| kept = Some(state));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Poisoned`] once an `access` has panicked, until [`heal`](Self::heal) has mended the state.
    ///
    /// # Panics
    ///
    /// If `access` does.
    pub fn with<R>(&self, access: impl FnOnce(&mut T) -> R) -> Result<R, Poisoned> {
        let mut state = self.state.lock().map_err(|_| Poisoned)?;
        Ok(access(&mut state))
    }

    /// Calls `mend` with the state that a panic left, and lets [`with`](Self::with) work again.
    ///
    /// `None`, and no call, if the state is in order: of several who find it poisoned, one mends it.
    ///
    /// # Panics
    ///
    /// If `mend` does. The state is then still poisoned.
    pub fn heal<R>(&self, mend: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut state = self.state.lock().err()?.into_inner();
        let mended = mend(&mut state);
        self.state.clear_poison(); // before the guard is dropped: nobody is refused in between
        Some(mended)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Does not wait: a locked state is shown as such.
        f.debug_tuple("Shared").field(&self.state).finish()
    }
}
