//! # Read mostly: ArcSwap, for state that is read all the time
//!
//! A configuration, a routing table, a set of keys: every request reads it, and once in a while it
//! is replaced. Behind a lock each reader writes to the lock's memory, a slow reader holds up the
//! writer, and a writer that waits holds up every other reader. Here a version is never changed: an
//! update puts a new one in its place, and readers keep the one they have.
//!
//! ## Use it when
//! - reads are far more frequent than updates, and a new version is built from the last;
//! - a request must see one version from its beginning to its end, awaits included.
//!
//! ## Use something else when
//! - tasks must be woken by a new version: `config_watch`;
//! - it changes about as often as it is read: `short_lock`;
//! - a change awaits while nobody else may change anything: `async_lock`.
//!
//! ## Add to your project
//! ```console
//! cargo add arc-swap
//! cargo add thiserror
//! ```
//!
//! ## Watch out
//! - A read guard of tokio's `RwLock` stops the first writer, and that one all readers that come
//!   after: a slow reader is everybody's. If one of them runs in the task that has the guard, all
//!   wait for ever, as in `nested_read`. So do threads with the `RwLock` of std, on Linux at least.
//! - Two snapshots may be two versions. Take one, and pass it on.
//! - A snapshot keeps its version in memory. A task that lives long takes a new one for each round.
//! - Whoever drops the last snapshot of a version destroys it, be it a reader in a hurry.
//! - To build from a snapshot and then store it loses what came in between. [`Store::update`] and
//!   [`Store::replace`] do not.
//! - Each update makes a new version, whatever its size: put parts that stay into an `Arc`.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use thiserror::Error;

/// The latest version of a value. Clone it for each task: all clones are one store.
pub struct Store<T> {
    latest: Arc<ArcSwap<T>>,
}

/// There is a newer version than the one that the new value was built from. Nothing was changed.
#[derive(Debug, Clone, Error)]
#[error("the value was built from an old version: build it again from the latest")]
pub struct Outdated<T> {
    /// The value that was not taken.
    pub refused: Arc<T>,
    /// The latest version.
    pub latest: Arc<T>,
}

impl<T> Store<T> {
    /// A store with a first version.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self {
            latest: Arc::new(ArcSwap::from_pointee(value)),
        }
    }

    /// The latest version, to keep for as long as a request takes. Waits for nobody.
    #[must_use]
    pub fn snapshot(&self) -> Arc<T> {
        self.latest.load_full()
    }

    /// Calls `look` with the latest version and returns what it returns. Waits for nobody, and costs
    /// less than a [`snapshot`](Self::snapshot): no counter is shared with other readers.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.latest.load())
    }

    /// Puts what `change` makes of the latest version in its place, and returns the version that was
    /// replaced.
    ///
    /// If another update comes first, `change` is called again, with that one's result. So let it
    /// be short, and do nothing but compute. **An update of the same store in it never ends.**
    ///
    /// # Panics
    ///
    /// If `change` does. The store is then as it was.
    pub fn update(&self, mut change: impl FnMut(&T) -> T) -> Arc<T> {
        let Ok(replaced) = self.try_update(|value| Ok::<_, Infallible>(change(value)));
        replaced
    }

    /// As [`update`](Self::update), for a change that can fail.
    ///
    /// # Errors
    ///
    /// What `change` returns. The store is then as it was.
    ///
    /// # Panics
    ///
    /// If `change` does. The store is then as it was.
    pub fn try_update<E>(&self, mut change: impl FnMut(&T) -> Result<T, E>) -> Result<Arc<T>, E> {
        let mut seen = self.snapshot();
        loop {
            match self.replace(&seen, change(&seen)?) {
                Ok(()) => return Ok(seen),
                Err(outdated) => seen = outdated.latest,
            }
        }
    }

    /// Puts `value` in the place of the version `seen`, if that is still the latest: for a value that
    /// takes awaits to build. The version counts, not what is in it.
    ///
    /// # Errors
    ///
    /// [`Outdated`] with the value, and the version to build it from.
    pub fn replace(&self, seen: &Arc<T>, value: impl Into<Arc<T>>) -> Result<(), Outdated<T>> {
        let value = value.into();
        let latest = self.latest.compare_and_swap(seen, Arc::clone(&value));
        if Arc::ptr_eq(&latest, seen) {
            return Ok(());
        }
        Err(Outdated {
            refused: value,
            latest: Guard::into_inner(latest),
        })
    }
}

impl<T> Clone for Store<T> {
    fn clone(&self) -> Self {
        Self {
            latest: Arc::clone(&self.latest),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.snapshot()).finish()
    }
}
