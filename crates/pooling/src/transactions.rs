//! # Transactions: commit, roll back, and nothing left for the next user
//!
//! A handler begins a transaction, and a timeout drops it half way. The connection goes back to the
//! pool, and whoever takes it next must find neither the transaction nor its locks. Here work runs in
//! a transaction which is committed if it returns `Ok`, and rolled back if it returns an error, panics
//! or is dropped; the error says whether to try again, and when nobody knows what was committed.
//!
//! ## Use it when
//! - several statements must all happen or none, and the task that makes them may be cancelled.
//!
//! ## Use something else when
//! - it is one statement: that is a transaction of its own;
//! - the error says to try again: call this in `backoff` or `backon_retry`, with new work each time;
//! - connections must be free of what sessions leave behind (`SET`, locks, `LISTEN`): `recycling`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio-postgres
//! ```
//! It takes a plain client, or a pool's object as `&mut object`, of PostgreSQL 13 or later.
//!
//! ## Watch out
//! - `batch_execute("BEGIN")` has no guard. Dropped before its `COMMIT`, it leaves the next user of the
//!   connection in the transaction: what that one writes is lost, or refused because "current
//!   transaction is aborted", or its own `COMMIT` commits the half: shown in `half_transaction`.
//! - `COMMIT` after a failed statement rolls back **and is no error**: `Transaction::commit` returns
//!   `Ok` if the statement's error was swallowed. Here that is an error. To go on after a statement
//!   that may fail, make it in a savepoint: `transaction.transaction().await?`.
//! - The rollback of a dropped transaction waits in the connection behind the statement that runs, and
//!   so does the next user, for as long as the statement may take. `statement_timeout` bounds that,
//!   and nothing here bounds a server that does not answer: put `tokio::time::timeout` around it.
//! - A commit that was cut off, or dropped while under way, may have happened: ask with [`fate`].
//! - `COMMIT` or `ROLLBACK` sent as a statement within the work ends the transaction, and the rest of
//!   the work is outside of it. So is what goes through another connection of the pool.
//! - Locks are kept until the end, also while the work waits for something else, such as an HTTP
//!   request: no statement runs then, and `statement_timeout` does not count.

use std::error::Error as StdError;
use std::time::Duration;

use thiserror::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::{Client, Error, IsolationLevel, SimpleQueryMessage, Transaction};

/// How a transaction runs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What it sees of others. With more than `ReadCommitted`, be ready to try again.
    pub isolation: IsolationLevel,
    /// How long one statement may take in the server, which then ends it with an error. In whole
    /// milliseconds, 1 at least.
    pub statement_timeout: Duration,
}

/// The server's number for a transaction that changes something: `pg_current_xact_id()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub u64);

/// Why there is no result. But for [`Unknown`](Self::Unknown), nothing of the work has happened.
#[derive(Debug, Error)]
pub enum TransactionError<E> {
    /// The work returned this error.
    #[error("the work failed, and was rolled back")]
    Work(#[source] E),
    /// The work returned `Ok`, but one of its statements had failed, which ends a transaction.
    #[error("the work went on after a statement that had failed, and was rolled back")]
    Aborted,
    /// It could not begin, or the connection was lost before the commit, or the server refused that.
    #[error("the transaction failed, and was rolled back")]
    RolledBack(#[source] Error),
    /// The connection was lost during the commit, which may or may not have happened.
    #[error("the connection was lost during the commit: it may have happened")]
    Unknown {
        /// To ask for its [`fate`]. `None` if no row was changed, and so none was lost.
        transaction: Option<TransactionId>,
        /// How the connection ended.
        source: Error,
    },
}

/// Runs `work` in a transaction: commits if it returns `Ok`, rolls back if not.
///
/// # Errors
///
/// [`TransactionError`]; ask it [`is_retryable`](TransactionError::is_retryable).
///
/// # Panics
///
/// If `work` does. The transaction is rolled back then.
///
/// # Cancel safety
///
/// Dropped before the commit, it is rolled back; during the commit, it may be committed. Either way the
/// next user of the connection finds no transaction, and waits for the statement that still runs.
pub async fn in_transaction<T, E>(
    client: &mut Client,
    settings: Settings,
    work: impl AsyncFnOnce(&mut Transaction<'_>) -> Result<T, E>,
) -> Result<T, TransactionError<E>> {
    let builder = client
        .build_transaction()
        .isolation_level(settings.isolation);
    // From here on, the drop of `transaction` sends ROLLBACK: no `?`, panic or lost timeout misses it.
    let starting = builder.start().await;
    let mut transaction = starting.map_err(TransactionError::RolledBack)?;
    let limit = settings.statement_timeout.as_millis();
    let limit = limit.clamp(1, i32::MAX.unsigned_abs().into()); // 0 would mean no limit
    let set = format!("SET LOCAL statement_timeout = {limit}");
    let setting = transaction.batch_execute(&set).await;
    setting.map_err(TransactionError::RolledBack)?;

    let value = match work(&mut transaction).await {
        Ok(value) => value,
        Err(error) => {
            // Awaited, so that its locks are gone when the caller goes on. If it fails, the
            // connection is lost, and the server rolls back for that.
            transaction.rollback().await.ok();
            return Err(TransactionError::Work(error));
        }
    };
    // Fails if a statement has failed, which COMMIT would not.
    let transaction_id = match own_id(&transaction).await {
        Ok(id) => id,
        Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
            transaction.rollback().await.ok();
            return Err(TransactionError::Aborted);
        }
        Err(error) => return Err(TransactionError::RolledBack(error)),
    };
    match transaction.commit().await {
        Ok(()) => Ok(value),
        Err(error) if is_refusal(&error) => Err(TransactionError::RolledBack(error)),
        Err(source) => Err(TransactionError::Unknown {
            transaction: transaction_id,
            source,
        }),
    }
}

/// What has become of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// All of it has happened.
    Committed,
    /// Nothing of it has happened, or ever will.
    RolledBack,
    /// The server has not noticed yet that its connection is lost. Ask again.
    InProgress,
    /// It is so long ago that the server has forgotten.
    Forgotten,
}

/// Asks, on another connection to the same server, for the fate of a commit that was cut off.
///
/// # Errors
///
/// What the query failed with; the server also refuses a number that it has not given yet.
///
/// # Cancel safety
///
/// Dropped before it is done, only the answer is lost.
pub async fn fate(client: &Client, transaction: TransactionId) -> Result<Fate, Error> {
    let query = format!("SELECT pg_xact_status('{}')", transaction.0);
    let answer = client.simple_query(&query).await?;
    Ok(match first_value(&answer) {
        Some("committed") => Fate::Committed,
        Some("aborted") => Fate::RolledBack,
        Some(_) => Fate::InProgress,
        None => Fate::Forgotten,
    })
}

/// `None` if the transaction has changed nothing so far.
async fn own_id(transaction: &Transaction<'_>) -> Result<Option<TransactionId>, Error> {
    // A simple query, since one with parameters is prepared first: that is a second round trip.
    let query = "SELECT pg_current_xact_id_if_assigned()";
    let answer = transaction.simple_query(query).await?;
    let id = first_value(&answer).and_then(|id| id.parse().ok());
    Ok(id.map(TransactionId))
}

fn first_value(answer: &[SimpleQueryMessage]) -> Option<&str> {
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
        _ => None,
    })
}

/// The server has said no and goes on. A FATAL, such as the end of the session while the commit waits
/// for a replica, may come after the commit.
fn is_refusal(error: &Error) -> bool {
    error.as_db_error().and_then(DbError::parsed_severity) == Some(Severity::Error)
}

impl<E: StdError + 'static> TransactionError<E> {
    /// Whether the transaction lost against others that ran at the same time, a serialization failure
    /// or a deadlock, and may well succeed if all of the work is done again.
    ///
    /// Found in the work's error too, if that tells its [`source`](StdError::source).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        const CONFLICTS: [&SqlState; 2] = [
            &SqlState::T_R_SERIALIZATION_FAILURE,
            &SqlState::T_R_DEADLOCK_DETECTED,
        ];
        let mut next: Option<&(dyn StdError + 'static)> = match self {
            Self::Work(error) => Some(error),
            Self::RolledBack(error) => Some(error),
            Self::Aborted | Self::Unknown { .. } => None,
        };
        while let Some(error) = next {
            let said = error.downcast_ref::<DbError>().map(DbError::code);
            if said.is_some_and(|code| CONFLICTS.contains(&code)) {
                return true;
            }
            next = error.source();
        }
        false
    }
}
