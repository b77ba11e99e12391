//! # Handlers: AsyncFn where it is awaited, boxed futures where it is spawned
//!
//! A function takes another one that is async: a visitor, a callback, a table of commands. `AsyncFn`
//! is the bound for that, and lets the closure borrow what it is given. But it cannot say that the
//! future is `Send`, and it cannot be behind `dyn`. So code that spawns, or keeps handlers of
//! different types in a table, asks for a plain `Fn` that returns a future, and boxes it.
//!
//! ## Use it when
//! - callers pass in behaviour: [`visit`] awaits it where it is, [`Handlers`] keeps a table of it.
//!
//! ## Use something else when
//! - there are several operations that belong together: a trait, `store` or `dyn_store`;
//! - handlers take jobs from a queue: `work_queue`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! ```
//!
//! ## Watch out
//! - The future of an `AsyncFn` cannot be required to be `Send`, so generic code cannot spawn it:
//!
//!   ```compile_fail
//!   fn spawn<F: AsyncFn() + Send + Sync + 'static>(work: F) {
//!       tokio::spawn(async move { work().await });
//!   }
//!   ```
//! - `Fn(&T) -> F` gives one future type for all lifetimes, so its future cannot borrow the argument:
//!
//!   ```compile_fail
//!   # use std::future::Future;
//!   async fn visit<F: Future<Output = ()>>(item: &String, look: impl Fn(&String) -> F) {
//!       look(item).await;
//!   }
//!   async fn length(text: &String) { drop(text.len()); }
//!   async fn both() { visit(&String::new(), |text| length(text)).await; }
//!   ```
//!   `AsyncFn(&T)` may.
//! - A handler that is called has not begun: a future that nobody polls does nothing.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;

use thiserror::Error;

/// A future behind a pointer, which can be sent to another thread.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

type Handler<C, T> = Box<dyn Fn(C) -> BoxFuture<T> + Send + Sync>;

/// Handlers by name, each of its own type. `C` is what they are called with, `T` what they return.
pub struct Handlers<C, T> {
    by_name: HashMap<String, Handler<C, T>>,
}

/// There is a handler of this name already. The new one was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there are two handlers with the name {0:?}: give one of them another")]
pub struct Taken(pub String);

/// There is no handler of this name. Here is what it would have been called with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no handler has this name")]
pub struct Unknown<C>(pub C);

impl<C: 'static, T: 'static> Handlers<C, T> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            by_name: HashMap::new(),
        }
    }

    /// Adds a handler: an `async fn`, or a closure that returns an `async move` block.
    ///
    /// # Errors
    ///
    /// [`Taken`] if the name has one.
    pub fn add<F>(
        &mut self,
        name: impl Into<String>,
        handler: impl Fn(C) -> F + Send + Sync + 'static,
    ) -> Result<(), Taken>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let name = name.into();
        if self.by_name.contains_key(&name) {
            return Err(Taken(name));
        }
        let boxed: Handler<C, T> = Box::new(move |input| Box::pin(handler(input)));
        self.by_name.insert(name, boxed);
        Ok(())
    }

    /// Calls a handler. Await the future, or spawn it: it owns all that it needs.
    ///
    /// # Errors
    ///
    /// [`Unknown`], with the input, if there is no handler of this name.
    ///
    /// # Panics
    ///
    /// If the handler does before it returns its future.
    ///
    /// # Cancel safety
    ///
    /// That of the handler: dropping the box drops its future.
    pub fn call(&self, name: &str, input: C) -> Result<BoxFuture<T>, Unknown<C>> {
        match self.by_name.get(name) {
            Some(handler) => Ok(handler(input)),
            None => Err(Unknown(input)),
        }
    }

    /// The names, sorted, for a message that says which there are.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.by_name.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// Awaits `look` with each item in turn, up to the first error. The future may borrow the item, and
/// whatever the closure borrows itself: nothing is spawned, so nothing has to be `'static`.
///
/// # Errors
///
/// That of `look`.
///
/// # Cancel safety
///
/// Dropped before it is done, it drops the call that is under way; the items before it were visited.
pub async fn visit<T, E>(
    items: impl IntoIterator<Item = T>,
    mut look: impl AsyncFnMut(&T) -> Result<(), E>,
) -> Result<(), E> {
    for item in items {
        look(&item).await?;
    }
    Ok(())
}

impl<C: 'static, T: 'static> Default for Handlers<C, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C, T> fmt::Debug for Handlers<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}
