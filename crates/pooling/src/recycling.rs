//! # Recycling: what a pool asks a connection before it gives it out again
//!
//! A connection that lay in the pool may be dead, and its session is as the last user left it. Asking
//! costs a round trip for each use; not asking costs a failed query for each dead connection, or a
//! wrong one for each setting that was left. This hook for `deadpool-postgres` asks those that have
//! been idle, resets sessions if wanted, refuses those left in a transaction, and counts.
//!
//! ## Use it when
//! - the database fails over, restarts, or stands behind something that cuts idle connections;
//! - users of the pool change their session: `SET`, temporary tables, advisory locks, `LISTEN`.
//!
//! ## Use something else when
//! - a transaction may be dropped half way: `transactions`, which leaves nothing to clean up;
//! - every query is retried when its connection is lost: `RecyclingMethod::Fast` alone will do.
//!
//! ## Add to your project
//! ```console
//! cargo add deadpool-postgres
//! cargo add tokio --features time
//! cargo add tokio-postgres
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - `RecyclingMethod::Fast`, the default, looks whether this end knows that the connection is closed:
//!   no round trip. What was cut just now, or without a word, is given out, and its query fails.
//! - `Verified` sends an empty query: one round trip. What dies between that and your query still
//!   fails: nothing but a retry covers that. Both leave the session as it was.
//! - `Clean` sends seven statements in one round trip. It keeps the transaction that was left open, so
//!   that the next user's writes are lost as ever; and it keeps prepared statements, as it must.
//! - `Custom("DISCARD ALL")` drops what `prepare_cached` believes to be there: "prepared statement does
//!   not exist".
//! - All of them act when the connection is taken, not when it is returned. Until then, an idle one
//!   keeps its locks, and others wait for them.
//! - The pool's `recycle` timeout covers the method and **not the hooks**: one that waits makes `get`
//!   wait. What a hook refused for is nowhere to be read. Here is a limit and a `tracing` event.
//! - Idle is counted from when the connection was last taken, not returned: one that was used for long
//!   is asked too often rather than too seldom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, RecyclingMethod};
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

/// What the next user of a connection may rely on.
#[derive(Debug, Clone, Copy)]
pub struct Recycling {
    /// Connections that were last taken longer ago than this are asked whether they are alive.
    /// [`Duration::ZERO`] asks each of them.
    pub verify_after: Duration,
    /// How long they may take to answer. After that they are closed, and another is taken.
    pub answer_within: Duration,
    /// Whether the session is brought back to where it began: settings, role, cursors, temporary
    /// tables, sequences, `LISTEN`, advisory locks. Each connection is asked then.
    pub reset: bool,
}

/// What has come of the connections that were taken again. For metrics.
#[derive(Debug, Default)]
pub struct RecycleCounts {
    trusted: AtomicU64,
    verified: AtomicU64,
    refused: AtomicU64,
}

impl RecycleCounts {
    /// Given out without a question.
    #[must_use]
    pub fn trusted(&self) -> u64 {
        self.trusted.load(Ordering::Relaxed)
    }

    /// Asked, answered, and given out.
    #[must_use]
    pub fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    /// Closed because they did not answer, refused, or were left in a transaction.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// False in a transaction that began before this message; refused in one that has failed.
const IS_OUTSIDE: &str = "SELECT now() = statement_timestamp()";

/// A hook for [`PoolBuilder::post_recycle`](deadpool_postgres::PoolBuilder::post_recycle) of a pool
/// whose method is `Fast`, which has then sorted out what is known to be closed.
///
/// Dropping a `get` while it waits for the answer closes that connection. The pool makes another when
/// it needs one.
///
/// # Panics
///
/// `get` does, if called outside of a Tokio runtime with timers.
#[must_use]
pub fn recycle_hook(recycling: Recycling, counts: Arc<RecycleCounts>) -> Hook {
    let question: Arc<str> = match RecyclingMethod::Clean.query() {
        Some(reset) if recycling.reset => format!("{IS_OUTSIDE}; {reset}").into(),
        _ => IS_OUTSIDE.into(),
    };
    Hook::async_fn(move |client, metrics| {
        let (question, counts) = (Arc::clone(&question), Arc::clone(&counts));
        let is_fresh = metrics.last_used() < recycling.verify_after;
        Box::pin(async move {
            if is_fresh && !recycling.reset {
                counts.trusted.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            let asked = timeout(recycling.answer_within, client.simple_query(&question)).await;
            let reason = match asked {
                Ok(Ok(answer)) if says_true(&answer) => {
                    counts.verified.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(Ok(_)) => "it was left in a transaction".to_owned(),
                Ok(Err(error)) => match error.as_db_error() {
                    Some(said) => format!("the server says: {}", said.message()),
                    None => error.to_string(),
                },
                Err(_) => format!("no answer within {:?}", recycling.answer_within),
            };
            counts.refused.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(reason, "a connection is not given out again");
            Err(HookError::message(reason))
        })
    })
}

fn says_true(answer: &[SimpleQueryMessage]) -> bool {
    let mut rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
        _ => None,
    });
    rows.next() == Some("t")
}
