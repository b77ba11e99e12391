//! # bb8 pool: bb8-postgres with every limit set
//!
//! The same job as `deadpool_pool`: few connections to PostgreSQL for many tasks. bb8 opens them in
//! tasks of its own, tries again while a caller has time left, and closes what is idle for long. As
//! it comes, it gives a silent server as long as it likes, and answers every failure with "timed
//! out". Here opening and checking have limits, and the error tells what was wrong.
//!
//! ## Use it when
//! - many tasks make short queries, and there are fewer connections than tasks;
//! - a `get` should ride out a restart of the database that is shorter than its limit;
//! - load comes and goes, and idle connections should be closed.
//!
//! ## Use something else when
//! - callers should be served in their order, or hear at once of a dead database: `deadpool_pool`;
//! - what is shared is no connection: `unmanaged`;
//! - one task does all the queries: a connection of its own, as in `typed_errors`.
//!
//! ## Add to your project
//! ```console
//! cargo add bb8
//! cargo add bb8-postgres
//! cargo add thiserror
//! cargo add tokio --features time
//! cargo add tokio-postgres
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - `connection_timeout` is for the whole of a `get`, 30 s by default, and the only limit. An attempt
//!   to connect to a silent server has none and keeps its place: bare, such a pool never recovers.
//!   Nor does the check, and a connection that fails it by being late goes back to the pool.
//! - A bare `get` never says why it failed: the reasons go to the error sink, and the default one
//!   drops them. Nor does it fail early: it waits until its limit, even for a wrong password.
//! - A failed attempt is repeated after 0.4 s, 0.8 s and so on, at most half of `wait`. So long may
//!   a database be back before the first `get` succeeds. Without `retry_connection`, nobody tries
//!   again for those who wait already. With it, bb8 gives up an attempt that has been repeated for
//!   longer than `connection_timeout`, and begins none for those who came in the meantime.
//! - **Attempts to connect go on after the pool is dropped**, for one and a half times `wait`, and
//!   `create`, at most.
//! - **A connection that is thrown away stays open until the server has answered what it was asked**,
//!   and as long as it lives if it has gone silent: at most `size` of them each time.
//! - A connection whose check was given up, because `wait` was over or the call of `get` dropped, is
//!   thrown away. A bare pool puts it back, and hands a silent one out again and again.
//! - A connection that comes back may be taken by a later caller than the one that waits for it.
//! - `Statistics::pending_gets` never stops counting a `get` that was dropped. [`Status::waiting`] does.
//! - `min_idle` makes `build` wait for its connections, and fail when the database is down. Idle ones
//!   are closed and opened anew all the same.
//! - A dropped query goes on in the server, and the check waits behind it. `statement` is kept by the
//!   server: put a `timeout` around a query too. `row.get` panics; use `try_get`.

use std::num::NonZeroU16;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bb8::{ManageConnection, Pool, PooledConnection};
use bb8_postgres::PostgresConnectionManager;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::DbError;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Socket};

/// How many connections, and what they may take. [`Duration::MAX`] is no limit.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What `pg_stat_activity` and the server's log call these connections.
    pub application_name: String,
    /// Connections at most. They are opened when they are first needed.
    pub size: NonZeroU16,
    /// For the whole of a [`Database::get`].
    pub wait: Duration,
    /// To reach one address of the server. Shorter than `create`, it leaves time for the next one.
    pub connect: Duration,
    /// To open a connection, all addresses and the login together. Attempts are repeated.
    pub create: Duration,
    /// To check a connection. One that does not answer in time is thrown away.
    pub recycle: Duration,
    /// A connection of this age is closed: when it comes back, or within 30 s if it is idle.
    pub lifetime: Duration,
    /// A connection that is idle for so long is closed within 30 s.
    pub idle: Duration,
    /// For the server to work on a statement, in whole milliseconds. Then it refuses it, with the
    /// code `QUERY_CANCELED`.
    pub statement: Duration,
}

/// Connections to a database. Clones share them.
#[derive(Debug, Clone)]
pub struct Database<T: MakeTlsConnect<Socket>>
where
    Manager<T>: ManageConnection,
{
    pool: Pool<Manager<T>>,
    seen: Arc<Seen>,
}

/// A connection, which keeps the pool alive. Dropping it gives it back, also in a panic.
pub type Connection<T> = PooledConnection<'static, Manager<T>>;

/// Opens and checks connections, each within its limit.
#[derive(Debug)]
pub struct Manager<T: MakeTlsConnect<Socket>> {
    postgres: PostgresConnectionManager<T>,
    wait: Duration,
    create: Duration,
    recycle: Duration,
    seen: Arc<Seen>,
}

/// A client of the pool. It is used as a [`Client`].
#[derive(Debug)]
pub struct Checked {
    client: Client,
    /// Since its last check began.
    has_answered: bool,
}

/// What bb8 does not tell.
#[derive(Debug, Default)]
struct Seen {
    /// Of the last attempt to connect.
    failure: Mutex<Option<GetError>>,
    /// Each `get` under way has a clone.
    waiting: Arc<()>,
}

/// Why there is no connection. There may be more variants one day.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum GetError {
    /// As many as there may be are open, and none was free in time. Ask less, or make it larger.
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
    Unreachable(#[source] Arc<tokio_postgres::Error>),
    /// The server answered, and does not let us in. Its code tells why.
    #[error("the database refused the connection: {} (code {})", .0.message(), .0.code().code())]
    Rejected(Box<DbError>),
}

/// A moment of the pool, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Connections at most.
    pub max_size: u32,
    /// Connections that are open.
    pub size: u32,
    /// Open ones that nobody uses.
    pub idle: u32,
    /// Calls of [`Database::get`] under way.
    pub waiting: usize,
}

impl<T> Database<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + Sync,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    /// A pool with these limits. It connects to nothing yet, so it is made with the database down
    /// too: call [`get`](Self::get) once to find out. What `config` says of application name and
    /// connect timeout is replaced.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime with timers.
    #[must_use]
    pub fn new(mut config: Config, tls: T, settings: &Settings) -> Self {
        // 0 would be no limit, and more than an i32 is refused. As an option of the session, it is
        // what `RESET ALL` goes back to.
        let statement = settings.statement.as_millis().clamp(1, i32::MAX as u128);
        let given = config.get_options().unwrap_or_default();
        let options = format!("{given} -c statement_timeout={statement}");
        config.options(options.trim());
        config.application_name(&settings.application_name);
        config.connect_timeout(settings.connect);

        let seen = Arc::<Seen>::default();
        let manager = Manager {
            postgres: PostgresConnectionManager::new(config, tls),
            wait: settings.wait,
            create: settings.create,
            recycle: settings.recycle,
            seen: Arc::clone(&seen),
        };
        let at_least = |limit: Duration| limit.max(Duration::from_nanos(1)); // bb8 panics at zero
        let pool = Pool::builder()
            .max_size(settings.size.get().into())
            .connection_timeout(at_least(settings.wait))
            .max_lifetime(at_least(settings.lifetime))
            .idle_timeout(at_least(settings.idle))
            .test_on_check_out(true)
            .retry_connection(true)
            .build_unchecked(manager);
        Self { pool, seen }
    }

    /// A connection that has just answered.
    ///
    /// # Errors
    ///
    /// [`GetError`], and not before [`Settings::wait`] is over.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without I/O or timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it loses no connection: one that was being opened is there for the
    /// next, and one that was being checked makes room for a new one.
    pub async fn get(&self) -> Result<Connection<T>, GetError> {
        let waiting = Arc::clone(&self.seen.waiting);
        let got = self.pool.get_owned().await;
        drop(waiting);
        // Whatever it was, bb8 calls it a time-out.
        got.map_err(|_| {
            let limit = self.pool.config().connection_timeout;
            let status = self.status();
            if status.size >= status.max_size {
                return GetError::Exhausted { limit, status };
            }
            let failure = self.seen.failure.lock();
            let failure = failure.unwrap_or_else(PoisonError::into_inner).clone();
            failure.unwrap_or(GetError::TimedOut { limit })
        })
    }

    /// How the pool is at the moment. Cheap enough for every scrape of the metrics.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = self.pool.state();
        Status {
            max_size: self.pool.config().max_size,
            size: state.connections,
            idle: state.idle_connections,
            waiting: Arc::strong_count(&self.seen.waiting) - 1,
        }
    }
}

impl<T> ManageConnection for Manager<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + Sync,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    type Connection = Checked;
    type Error = GetError;

    async fn connect(&self) -> Result<Checked, GetError> {
        let mut delay = Duration::from_millis(200);
        loop {
            let connected = within(self.create, self.postgres.connect()).await;
            let failure = self.seen.failure.lock();
            *failure.unwrap_or_else(PoisonError::into_inner) = connected.as_ref().err().cloned();
            // bb8 would give up after a time, though somebody waits who has come since.
            let somebody_waits = Arc::strong_count(&self.seen.waiting) > 1;
            if connected.is_ok() || !somebody_waits {
                return connected.map(|client| Checked {
                    client,
                    has_answered: true,
                });
            }
            delay = delay.saturating_mul(2).min(self.wait / 2); // as bb8 has them
            sleep(delay).await;
        }
    }

    async fn is_valid(&self, checked: &mut Checked) -> Result<(), GetError> {
        checked.has_answered = false; // and so it stays if the check is dropped
        within(self.recycle, self.postgres.is_valid(&mut checked.client)).await?;
        checked.has_answered = true;
        Ok(())
    }

    fn has_broken(&self, checked: &mut Checked) -> bool {
        !checked.has_answered || self.postgres.has_broken(&mut checked.client)
    }
}

impl Deref for Checked {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Checked {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Nobody else hears of what goes wrong here, so it is an event as well.
async fn within<R>(
    limit: Duration,
    step: impl Future<Output = Result<R, tokio_postgres::Error>>,
) -> Result<R, GetError> {
    let result = match timeout(limit, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => match error.as_db_error() {
            // Those are for a server that is starting or stopping.
            Some(said) if !said.code().code().starts_with("57P") => {
                Err(GetError::Rejected(Box::new(said.clone())))
            }
            _ => Err(GetError::Unreachable(Arc::new(error))),
        },
        Err(_) => Err(GetError::TimedOut { limit }),
    };
    if let Err(error) = &result {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "no use of a connection"
        );
    }
    result
}
