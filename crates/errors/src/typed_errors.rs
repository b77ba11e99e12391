//! # Typed errors: thiserror, for a lookup in PostgreSQL
//!
//! A caller wants to know whether there is no such user, or the database is slow, or gone, or the
//! program is wrong about a column: it answers each in another way. One enum with a variant for each
//! way to act tells them apart, keeps the cause, and needs no string to be taken apart.
//!
//! ## Use it when
//! - you write a library, or a layer whose callers act upon what went wrong.
//!
//! ## Use something else when
//! - the error is only read by people: `context`;
//! - the only question is whether to try again: `retryable`, a method on such an enum;
//! - connections are many and shared: a pool, with this around its queries.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features time
//! cargo add tokio-postgres
//! ```
//!
//! ## Watch out
//! - What a query was refused for is not in the text of `tokio_postgres::Error`, which is "db error",
//!   but in its source. Here the message is in ours.
//! - That library names a column by its number when its type is wrong, and `row.get` panics then, or
//!   when the value is NULL. `try_get` is the one that returns.
//! - A query that timed out here **goes on in the server**, and so do the locks it has. Set
//!   `statement_timeout` for the connection, a little longer than the limit here.
//! - `#[from]` on a broad type makes one variant of everything that `?` meets. Decide at the call.
//! - An error that says in its text what its source says prints twice in `{error:#}` of anyhow.

use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use thiserror::Error;
use tokio::time::timeout;
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Row};

/// Why a lookup gave nothing. There may be more variants one day.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LookupError {
    /// No row fits. The query and the connection are fine.
    #[error("no row was found")]
    NotFound,
    /// More than one row fits, where there must be one.
    #[error("more than one row was found: make the query's condition unique")]
    Ambiguous,
    /// There was no answer in time. The server may still be at work on it.
    #[error("the database has not answered within {limit:?}")]
    TimedOut {
        /// The time that it was given.
        limit: Duration,
    },
    /// The connection is lost, and what was asked may have been carried out. Connect anew.
    #[error("the connection to the database is closed")]
    Closed(#[source] Option<tokio_postgres::Error>),
    /// The row has no such column, or its value is NULL or of another type: the program and the
    /// database do not fit together.
    #[error("column `{column}` cannot be read")]
    Column {
        /// The column's name.
        column: String,
        /// What is wrong with it.
        source: tokio_postgres::Error,
    },
    /// The server refused the query. Its `code` tells why, to programs.
    #[error("the database refused the query: {} (code {})", .0.message(), .0.code().code())]
    Refused(Box<DbError>),
    /// Anything else, such as a parameter of another type than the query's.
    #[error("the query failed")]
    Failed(#[source] tokio_postgres::Error),
}

/// A row, read by the names of its columns.
#[derive(Debug)]
pub struct Columns(Row);

impl Columns {
    /// The value of a column. Ask for an `Option` if it may be NULL.
    ///
    /// # Errors
    ///
    /// [`LookupError::Column`], with the column's name, if there is none, or its type is another, or it
    /// is NULL.
    pub fn get<'row, T: FromSql<'row>>(&'row self, column: &str) -> Result<T, LookupError> {
        self.0
            .try_get(column)
            .map_err(|source| LookupError::Column {
                column: column.to_owned(),
                source,
            })
    }
}

/// Looks for the one row that fits, and reads it with `read`, such as
/// `|row| Ok(User { name: row.get("name")? })`.
///
/// # Errors
///
/// [`LookupError`], a variant for each way to act upon it.
///
/// # Panics
///
/// If polled outside of a Tokio runtime with timers, or if `read` does.
///
/// # Cancel safety
///
/// Dropped before it is done, the answer is lost, and the server goes on with the query; the
/// connection can be used at once, and its next answer comes after that.
pub async fn find_one<T>(
    client: &Client,
    limit: Duration,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
    read: impl FnOnce(&Columns) -> Result<T, LookupError>,
) -> Result<T, LookupError> {
    let asking = async {
        let rows = client.query_raw(query, parameters.iter().copied()).await?;
        let mut rows = pin!(rows);
        let Some(first) = rows.try_next().await? else {
            return Ok((None, None)); // and the stream must not be asked again
        };
        // Of a thousand rows, the second is enough to know. The rest is dropped as it comes.
        Ok((Some(first), rows.try_next().await?))
    };
    match timeout(limit, asking).await {
        Ok(Ok((Some(row), None))) => read(&Columns(row)),
        Ok(Ok((None, _))) => Err(LookupError::NotFound),
        Ok(Ok((Some(_), Some(_)))) => Err(LookupError::Ambiguous),
        Ok(Err(error)) => Err(LookupError::from_query(error, client)),
        // A connection that is lost does not always say so.
        Err(_) if client.is_closed() => Err(LookupError::Closed(None)),
        Err(_) => Err(LookupError::TimedOut { limit }),
    }
}

impl LookupError {
    fn from_query(error: tokio_postgres::Error, client: &Client) -> Self {
        match error.as_db_error() {
            Some(said) if ends_session(said) => Self::Closed(Some(error)),
            Some(said) => Self::Refused(Box::new(said.clone())),
            None if error.is_closed() || client.is_closed() => Self::Closed(Some(error)),
            None => Self::Failed(error),
        }
    }

    /// The server's code for why it refused the query, such as [`SqlState::UNIQUE_VIOLATION`].
    #[must_use]
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Refused(error) => Some(error.code()),
            _ => None,
        }
    }
}

/// By its severity, not its code: a session is ended for many reasons, a time limit or a conflict on
/// a replica among them, and a later release may have more.
fn ends_session(said: &DbError) -> bool {
    match said.parsed_severity() {
        Some(severity) => matches!(severity, Severity::Fatal | Severity::Panic),
        // From what tells it in its own language only, such as a pooler between.
        None => matches!(said.severity(), "FATAL" | "PANIC"),
    }
}
