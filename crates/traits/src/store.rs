//! # Store: an async trait whose futures are Send
//!
//! A program keeps values by key, in Redis when it runs and in memory when it is tested, and the code
//! between does not care which. So there is a trait, and two things must be right in it: its futures
//! must be `Send`, or no generic caller can spawn them, and "there is no such key" must not look like
//! "the server is gone" or "it took too long".
//!
//! ## Use it when
//! - code is generic over what it calls, at compile time, and may spawn: `fn serve<S: Store>(…)`;
//! - values are kept in Redis or Valkey, over one connection that all tasks share.
//!
//! ## Use something else when
//! - the implementation is chosen at run time, or held in a list: `dyn_store`;
//! - there is one function to be passed in, and not an interface of several: `handlers`;
//! - nothing but a test replaces it: a `duplex` stream or a local server may do without a trait.
//!
//! ## Add to your project
//! ```console
//! cargo add redis --features connection-manager,tokio-comp
//! cargo add thiserror
//! cargo add tokio --features time
//! ```
//!
//! ## Watch out
//! - `async fn` in the trait itself says nothing about `Send`, and a generic caller cannot add it:
//!
//!   ```compile_fail
//!   trait Store { async fn get(&self, key: &str) -> Option<String>; }
//!   fn spawn<S: Store + Send + Sync + 'static>(store: S) {
//!       tokio::spawn(async move { store.get("key").await });
//!   }
//!   ```
//!   With `impl Future<…> + Send` in the trait it compiles, and implementations still write
//!   `async fn`: see [`MemoryStore`].
//! - A `set` that timed out may be carried out all the same, even later.
//! - A connection that is shared answers in the order of the requests: one slow command holds up all.
//!   Blocking commands, such as `BLPOP`, need a connection of their own.
//! - After the server was gone, the first call reports it and only then is it connected anew. A call
//!   that must succeed is made again: see `retryable`.
//! - Keys of several programs in one server need a prefix: [`RedisStore::connect`] takes it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ErrorKind, FromRedisValue, RedisError};
use thiserror::Error;
use tokio::time::timeout;

/// Keeps values by key. Clone it for each task.
pub trait Store: Clone + Send + Sync + 'static {
    /// The value of `key`. `None` if there is none, which is no error.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, nothing has changed.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;

    /// Puts `value` under `key`, in the place of any other.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, `key` has the old value or the new, and may still get the new.
    fn set(&self, key: &str, value: &[u8]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes `key`. Whether it was there.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, `key` is there or not, and may still be removed.
    fn remove(&self, key: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Why there is no answer.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The server cannot be reached, or the connection broke. Later it may work.
    #[error("the store cannot be reached")]
    Unavailable(#[source] Arc<RedisError>),
    /// There was no answer in time. What was asked for may have been done.
    #[error("the store has not answered within {limit:?}")]
    TimedOut {
        /// The time that it was given.
        limit: Duration,
    },
    /// The server answered that it will not, for instance because the key's value is of another
    /// type, or the password is wrong. The same call will fail again.
    #[error("the store refused")]
    Refused(#[source] Arc<RedisError>),
}

/// A store in memory, for tests. Its clones are one store.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<HashMap<String, Vec<u8>>>>);

impl MemoryStore {
    fn values(&self) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.values().get(key).cloned())
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.values().insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.values().remove(key).is_some())
    }
}

/// A store in Redis, over one connection, which is made anew when it breaks. Its clones share it.
#[derive(Clone)]
pub struct RedisStore {
    connection: ConnectionManager,
    prefix: Arc<str>,
    limit: Duration,
}

impl RedisStore {
    /// A store at `url`, such as `redis://127.0.0.1:6379`, whose keys all begin with `prefix`. Each
    /// call takes `limit` at most, connecting included.
    ///
    /// It does not connect yet: a server that is down now is the first call's error.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] if `url` is no address of a Redis.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn connect(url: &str, prefix: &str, limit: Duration) -> Result<Self, StoreError> {
        let refused = |error| StoreError::Refused(Arc::new(error));
        // One attempt for each call, and our own limit around it all: the library's would be 500 ms
        // for an answer, and seconds for a server that is gone.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(limit))
            .set_response_timeout(None);
        let client = Client::open(url).map_err(refused)?;
        let connection =
            ConnectionManager::new_lazy_with_config(client, config).map_err(refused)?;
        Ok(Self {
            connection,
            prefix: prefix.into(),
            limit,
        })
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let limit = self.limit;
        let mut connection = self.connection.clone();
        match timeout(limit, command.query_async(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.is_timeout() => Err(StoreError::TimedOut { limit }),
            // The library would connect anew for it, but a wrong password stays wrong.
            Ok(Err(error)) if error.kind() == ErrorKind::AuthenticationFailed => {
                Err(StoreError::Refused(Arc::new(error)))
            }
            Ok(Err(error)) if error.is_io_error() || error.is_unrecoverable_error() => {
                Err(StoreError::Unavailable(Arc::new(error)))
            }
            Ok(Err(error)) => Err(StoreError::Refused(Arc::new(error))),
            Err(_) => Err(StoreError::TimedOut { limit }),
        }
    }

    fn command(&self, name: &str, key: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(format!("{}{key}", self.prefix));
        command
    }
}

impl Store for RedisStore {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(&self.command("GET", key)).await
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.ask(self.command("SET", key).arg(value)).await
    }

    async fn remove(&self, key: &str) -> Result<bool, StoreError> {
        self.ask(&self.command("DEL", key)).await
    }
}

/// By hand: a connection does not implement `Debug`.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.prefix)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
