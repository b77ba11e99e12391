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
//! cargo add redis --features tokio-comp
//! cargo add thiserror
//! cargo add tokio --features sync,time
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
//! - A `set` that timed out may be carried out all the same, even later, and even after another `set`
//!   of the same key that was made later and succeeded: the two may go over different connections.
//! - A connection that is shared answers in the order of the requests: one slow command holds up all.
//!   Blocking commands, such as `BLPOP`, need a connection of their own.
//! - After the server was gone, the first call reports it and only then is it connected anew. A call
//!   that must succeed is made again: see `retryable`.
//! - Keys of several programs in one server need a prefix: [`RedisStore::connect`] takes it.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue};
use redis::{RedisError, RedisResult, RetryMethod, ServerErrorKind};
use thiserror::Error;
use tokio::sync::OnceCell;
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
    /// The server cannot be reached, the connection broke, or the server cannot do it now, for
    /// instance because it is loading its data or has become a replica. Later it may work. If the
    /// connection broke, what was asked for may have been done.
    #[error("the store cannot be reached")]
    Unavailable(#[source] Arc<RedisError>),
    /// There was no answer in time. What was asked for may have been done.
    #[error("the store has not answered within {limit:?}")]
    TimedOut {
        /// The time that it was given.
        limit: Duration,
    },
    /// The server answered that it will not, for instance because the key's value is of another
    /// type, or the password is wrong. Until that is mended, the same call will fail again.
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

/// A store in Redis, over one connection. Its clones share it.
///
/// It is made anew by the next call when it could not be made or broke, when the server has become a
/// replica, and when a call was late and no other call was answered while it waited.
#[derive(Clone)]
pub struct RedisStore {
    client: Client,
    /// In use now. The lock is held to look or to replace, never while waiting.
    link: Arc<Mutex<Arc<Link>>>,
    prefix: Arc<str>,
    limit: Duration,
}

/// One connection, from before it is made until it is given up.
struct Link {
    /// Or why it could not be made.
    connection: OnceCell<RedisResult<MultiplexedConnection>>,
    /// Makes it. If the caller that waits for it leaves, the next goes on with the same future.
    making: tokio::sync::Mutex<Making>,
    /// How many calls were answered over it.
    answers: AtomicU64,
}

type Making = Pin<Box<dyn Future<Output = RedisResult<MultiplexedConnection>> + Send>>;

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
    /// Its calls do, if polled outside of a Tokio runtime with timers and sockets.
    pub fn connect(url: &str, prefix: &str, limit: Duration) -> Result<Self, StoreError> {
        let client = Client::open(url).map_err(|error| StoreError::Refused(Arc::new(error)))?;
        Ok(Self {
            link: Arc::new(Mutex::new(Arc::new(Link::new(&client)))),
            client,
            prefix: prefix.into(),
            limit,
        })
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let limit = self.limit;
        let link = Arc::clone(&self.link());
        let answers_before = link.answers.load(Ordering::Relaxed);
        let asking = async {
            let mut connection = link.connection().await?;
            command.query_async(&mut connection).await
        };
        match timeout(limit, asking).await {
            Ok(Ok(answer)) => {
                link.answers.fetch_add(1, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(error)) => Err(self.failed(error, &link)),
            Err(_) => {
                // A server that is only slow answers others meanwhile. Where nothing came for so
                // long the other end may have vanished, which the system finds out after minutes.
                if link.answers.load(Ordering::Relaxed) == answers_before {
                    self.give_up(&link);
                }
                Err(StoreError::TimedOut { limit })
            }
        }
    }

    fn failed(&self, error: RedisError, link: &Arc<Link>) -> StoreError {
        let is_broken = error.is_io_error() || error.is_unrecoverable_error();
        let was_made = link.connection.get().is_some_and(Result::is_ok);
        // After a failover another server may have the address of one that is a replica now.
        let is_replica = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        if is_broken || is_replica || !was_made {
            self.give_up(link);
        } else {
            link.answers.fetch_add(1, Ordering::Relaxed);
        }
        // The library would connect anew for a wrong password, which does not make it right.
        let is_refusal = error.kind() == ErrorKind::AuthenticationFailed;
        let may_pass = matches!(
            error.retry_method(),
            RetryMethod::WaitAndRetry | RetryMethod::RefreshSlotsAndRetry
        );
        let error = Arc::new(error);
        if !is_refusal && (is_broken || may_pass) {
            StoreError::Unavailable(error)
        } else {
            StoreError::Refused(error)
        }
    }

    /// The next call connects anew. Those under way keep the old connection until they end.
    fn give_up(&self, link: &Arc<Link>) {
        let mut current = self.link();
        // Another call may have replaced it already.
        if Arc::ptr_eq(&current, link) {
            *current = Arc::new(Link::new(&self.client));
        }
    }

    fn link(&self) -> MutexGuard<'_, Arc<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, name: &str, key: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(format!("{}{key}", self.prefix));
        command
    }
}

impl Link {
    fn new(client: &Client) -> Self {
        let client = client.clone();
        // Our own limit is around it all: the library's would be 500 ms for an answer.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let making = async move {
            let making = client.get_multiplexed_async_connection_with_config(&config);
            making.await
        };
        Self {
            connection: OnceCell::new(),
            making: tokio::sync::Mutex::new(Box::pin(making)),
            answers: AtomicU64::new(0),
        }
    }

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let make = async || self.making.lock().await.as_mut().await;
        self.connection.get_or_init(make).await.clone()
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
