//! # Dyn store: one async trait, static and behind dyn
//!
//! Which store a program uses is decided when it starts, or there is a list of different ones. That
//! takes `dyn`, and a trait with `async fn` cannot be behind it: each implementation's future has a
//! type and a size of its own. A second trait boxes the futures. Every store has it without a line of
//! its own, and what is behind `dyn` can again be given to generic code.
//!
//! ## Use it when
//! - implementations are chosen at run time, kept in a list, or named in no type.
//!
//! ## Use something else when
//! - one implementation is known at compile time: `store` alone, without the box;
//! - there are two or three and never more: an enum with a `match`, which allocates nothing;
//! - it is one function: `handlers`.
//!
//! ## Add to your project
//! Nothing: it is the standard library alone. The crate `async-trait` writes the boxed form for you,
//! one trait instead of two, if every caller may pay for the box:
//!
//! ```
//! # use async_trait::async_trait;
//! #[async_trait]
//! trait Boxed: Send + Sync {
//!     async fn get(&self, key: &str) -> Option<Vec<u8>>;
//! }
//! fn behind_dyn(_: &dyn Boxed) {}
//! ```
//!
//! ## Watch out
//! - The trait itself cannot be behind `dyn`:
//!
//!   ```compile_fail,E0038
//!   trait Store { async fn get(&self, key: &str) -> Option<Vec<u8>>; }
//!   fn behind_dyn(_: &dyn Store) {}
//!   ```
//! - A boxed future without `+ Send` compiles, and then no caller can spawn it:
//!
//!   ```compile_fail,E0277
//!   # use std::{future::Future, pin::Pin};
//!   fn get() -> Pin<Box<dyn Future<Output = u8>>> { Box::pin(async { 7 }) }
//!   tokio::spawn(get());
//!   ```
//! - Each call allocates, also when it need not wait. That is nothing beside a request over the
//!   network, and much beside a look into a map.
//! - `Arc<dyn DynStore>` given to generic code is boxed once. Put behind `dyn` again, it is boxed twice.

use std::pin::Pin;
use std::sync::Arc;

/// A future behind a pointer, which can be sent to another thread and may borrow for `'a`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is implemented, with plain `async fn`.
pub trait Store: Send + Sync {
    /// Why a call can fail.
    type Error;

    /// The value of `key`. `None` if there is none.
    ///
    /// # Cancel safety
    ///
    /// As the implementation says. Behind `dyn` it is the same: dropping the box drops its future.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Vec<u8>>, Self::Error>> + Send;

    /// Puts `value` under `key`.
    ///
    /// # Cancel safety
    ///
    /// As the implementation says. Behind `dyn` it is the same: dropping the box drops its future.
    fn set(&self, key: &str, value: &[u8]) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What can be behind `dyn`. Every [`Store`] has it; its methods have other names, so that a call is
/// never ambiguous.
pub trait DynStore<E>: Send + Sync {
    /// [`Store::get`], boxed.
    ///
    /// # Cancel safety
    ///
    /// That of the call in it: dropping the box drops its future.
    fn get_boxed<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, E>>;

    /// [`Store::set`], boxed.
    ///
    /// # Cancel safety
    ///
    /// That of the call in it: dropping the box drops its future.
    fn set_boxed<'a>(&'a self, key: &'a str, value: &'a [u8]) -> BoxFuture<'a, Result<(), E>>;
}

impl<S: Store> DynStore<S::Error> for S {
    fn get_boxed<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, S::Error>> {
        Box::pin(self.get(key))
    }

    fn set_boxed<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
    ) -> BoxFuture<'a, Result<(), S::Error>> {
        Box::pin(self.set(key, value))
    }
}

/// What is behind `dyn` is a [`Store`] again, for generic code that takes one.
impl<E> Store for Arc<dyn DynStore<E>> {
    type Error = E;

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, E> {
        (**self).get_boxed(key).await
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<(), E> {
        (**self).set_boxed(key, value).await
    }
}
