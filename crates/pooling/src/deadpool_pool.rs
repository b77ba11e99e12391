//! # Deadpool pool: deadpool-postgres with every limit set
//!
//! A connection to PostgreSQL costs milliseconds and a process in the server, so a service keeps few,
//! and its tasks share them. As it comes, deadpool waits for ever for a free one and hands out dead
//! ones. Here every wait has a limit, a connection is checked before it is handed out, and the error
//! tells whether the pool is too small, the database gone, or the login wrong.
//!
//! ## Use it when
//! - many tasks make short queries, and there are fewer connections than tasks;
//! - each is to get its turn in the order in which they asked, and hear at once of a dead database.
//!
//! ## Use something else when
//! - a `get` should ride out a short outage, or idle connections be closed: `bb8_pool`;
//! - the check costs too much, or the session's state must be cleaned: `recycling`;
//! - what is shared is no connection: `unmanaged`;
//! - one task does all the queries: a connection of its own, as in `typed_errors`.
//!
//! ## Add to your project
//! ```console
//! cargo add deadpool-postgres
//! cargo add thiserror
//! cargo add tokio --features time
//! cargo add tokio-postgres
//! ```
//!
//! ## Watch out
//! - Without limits, which is the default, `get` on an exhausted pool waits for ever, and so it does
//!   for a server that accepts and says nothing. With them, and no `runtime`, `build` is an error.
//! - The default check, `RecyclingMethod::Fast`, asks nobody: a connection whose server has gone
//!   silent passes, and the query on it waits for ever.
//! - `recycle` is for one connection. With eight silent ones, a bare `get` waits eight times as long;
//!   [`get`] here gives up after `wait`, `recycle` and `create` together.
//! - **A query that is dropped goes on in the server**, on a connection that goes back to the pool.
//!   The check waits behind it, and after `recycle` closes the connection instead of handing it out.
//! - `statement` is kept by the server. Only a limit of your own ends the wait for a server that has
//!   gone silent: `timeout` around the query, or `find_one` of `typed_errors`.
//! - A task that holds a connection and asks for a second one waits for itself once the pool is empty.
//!   What that and a missing limit do together is shown in `endless_pool_wait`.
//! - `row.get` panics on NULL, on another type and on a column that is not there. Use `try_get`.
//! - The pool does not shrink by itself: it keeps the connections of its busiest minute.

use std::num::NonZeroU16;
use std::time::Duration;

use deadpool_postgres::{
    BuildError, Client, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod,
    Runtime, Status, TimeoutType,
};
use thiserror::Error;
use tokio::time::timeout;
use tokio_postgres::error::DbError;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, Socket};

/// How many connections, and what they may take. [`Duration::MAX`] is no limit.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What `pg_stat_activity` and the server's log call these connections.
    pub application_name: String,
    /// Connections at most. They are opened when they are first needed.
    pub size: NonZeroU16,
    /// To wait until one is free. Zero is not to wait.
    pub wait: Duration,
    /// To reach one address of the server. Shorter than `create`, it leaves time for the next one.
    pub connect: Duration,
    /// To open a connection, all addresses and the login together.
    pub create: Duration,
    /// To check a connection. One that does not answer in time is closed.
    pub recycle: Duration,
    /// A connection of this age is not handed out again. New ones find a server that has moved.
    pub lifetime: Duration,
    /// For the server to work on a statement, in whole milliseconds. Then it refuses it, with the
    /// code `QUERY_CANCELED`.
    pub statement: Duration,
}

/// Why there is no connection. There may be more variants one day.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GetError {
    /// All are in use, or being opened by others. With none open, the database is the trouble;
    /// otherwise ask less, or make the pool larger.
    #[error(
        "no connection was free within {limit:?}: {} of {} open, {} waiting",
        .status.size, .status.max_size, .status.waiting
    )]
    Exhausted {
        /// [`Settings::wait`].
        limit: Duration,
        /// The pool, without this call.
        status: Status,
    },
    /// The server accepts connections and does not answer.
    #[error("the database has not answered within {limit:?}")]
    TimedOut {
        /// The time that it was given.
        limit: Duration,
    },
    /// There is no server, it is starting or stopping, or this side cannot speak to it: see the
    /// source.
    #[error("the database cannot be reached")]
    Unreachable(#[source] tokio_postgres::Error),
    /// The server answered, and does not let us in. Its code tells why.
    #[error("the database refused the connection: {} (code {})", .0.message(), .0.code().code())]
    Rejected(Box<DbError>),
    /// It was closed, or was made without [`pool`].
    #[error("the pool gives no connections")]
    Unusable(#[source] PoolError),
}

/// A pool with these limits. It connects to nothing yet, so it is made with the database down too:
/// call [`get`] once to find out. What `config` says of application name and connect timeout is
/// replaced. [`Pool::status`] is for metrics.
///
/// # Errors
///
/// None today: deadpool has one for limits without a runtime, and here is one.
pub fn pool<T>(mut config: Config, tls: T, settings: &Settings) -> Result<Pool, BuildError>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + Sync,
    T::TlsConnect: Send + Sync,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    // 0 would be no limit, and more than an i32 is refused. As an option of the session, it is what
    // `RESET ALL` goes back to.
    let statement = settings.statement.as_millis().clamp(1, i32::MAX as u128);
    let given = config.get_options().unwrap_or_default();
    let options = format!("{given} -c statement_timeout={statement}");
    config.options(options.trim());
    config.application_name(&settings.application_name);
    config.connect_timeout(settings.connect);

    let recycling_method = RecyclingMethod::Verified;
    let manager = Manager::from_config(config, tls, ManagerConfig { recycling_method });
    let lifetime = settings.lifetime;
    let check_age = Hook::sync_fn(move |_, metrics| {
        let is_young = metrics.age() < lifetime;
        is_young
            .then_some(())
            .ok_or_else(|| HookError::message("too old"))
    });
    Pool::builder(manager)
        .max_size(settings.size.get().into())
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(settings.wait))
        .create_timeout(Some(settings.create))
        .recycle_timeout(Some(settings.recycle))
        .pre_recycle(check_age)
        .build()
}

/// A connection that has just answered. Dropping it gives it back, also in a panic. Calls are served
/// in the order in which they come.
///
/// # Errors
///
/// [`GetError`], after `wait`, `recycle` and `create` together at the latest.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without I/O or timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it gives its turn to the next. A connection that was being opened or
/// checked is closed, and another is opened when it is needed.
pub async fn get(pool: &Pool) -> Result<Client, GetError> {
    let limits = pool.timeouts();
    let limits = [limits.wait, limits.recycle, limits.create];
    let [wait, recycle, create] = limits.map(|limit| limit.unwrap_or(Duration::MAX));
    let whole = wait.saturating_add(recycle).saturating_add(create);
    match timeout(whole, pool.get()).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(PoolError::Timeout(TimeoutType::Wait))) => Err(GetError::Exhausted {
            limit: wait,
            status: pool.status(),
        }),
        Ok(Err(PoolError::Timeout(_))) => Err(GetError::TimedOut { limit: create }),
        Ok(Err(PoolError::Backend(error))) => match error.as_db_error() {
            // Those are for a server that is starting or stopping.
            Some(said) if !said.code().code().starts_with("57P") => {
                Err(GetError::Rejected(Box::new(said.clone())))
            }
            _ => Err(GetError::Unreachable(error)),
        },
        Ok(Err(other)) => Err(GetError::Unusable(other)),
        // Many checks, each in its limit: deadpool goes from one silent connection to the next.
        Err(_) => Err(GetError::TimedOut { limit: whole }),
    }
}
