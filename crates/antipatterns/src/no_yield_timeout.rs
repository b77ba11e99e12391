//! # No-yield timeout: a limit around code that never waits
//!
//! A regular expression that explodes, a large file that is parsed, a search: now and then it takes
//! a minute, so there is a `timeout` around it. It does nothing. A timeout is a future that polls
//! another, then looks at the clock; while the other computes, nobody looks.
//!
//! ## You have it when
//! - a call with a limit of 100 ms answers after a minute, and answers `Ok`;
//! - `deadline has elapsed` is never in the log, however slow the call;
//! - the code inside is `async` and has no `.await`, or awaits only what is ready at once: a cache,
//!   a parser, `stream::iter`.
//!
//! ## What it does to you
//! - With a limit of zero, a search looked at all of 1,000,000 candidates, and the result was `Ok`.
//! - Awaits do not help if nothing has to wait: a stream of 1,000,000 items in memory was read to
//!   its end under the same limit.
//! - A search without an end is not ended: the task never comes back, nor does its thread.
//!
//! ## Use instead
//! - `deadline` with tokio's `consume_budget().await` in the loop: each 128 turns or so the limit
//!   is asked, and the other tasks have a turn;
//! - `cpu_offload` for a call that you cannot open up: the caller leaves in time, the thread is
//!   another, and the job can ask whether it is still wanted.

use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// The first that is accepted, looked for no longer than `limit`.
///
/// # Errors
///
/// `Elapsed`, if it took too long. That is what it says.
pub async fn find_within<T>(
    limit: Duration,
    candidates: impl IntoIterator<Item = T>,
    mut accepts: impl FnMut(&T) -> bool,
) -> Result<Option<T>, Elapsed> {
    // The clock is asked after the first poll, and this is done in the first poll.
    timeout(limit, async {
        candidates.into_iter().find(|it| accepts(it))
    })
    .await
}

/// The same with a stream.
///
/// # Errors
///
/// `Elapsed`, if some item was not ready, and it took too long.
pub async fn find_in_stream_within<T>(
    limit: Duration,
    candidates: impl Stream<Item = T>,
    mut accepts: impl FnMut(&T) -> bool,
) -> Result<Option<T>, Elapsed> {
    let mut candidates = pin!(candidates);
    let find = async {
        while let Some(candidate) = candidates.next().await {
            // ready at once, a million times
            if accepts(&candidate) {
                return Some(candidate);
            }
        }
        None
    };
    timeout(limit, find).await
}
