//! # Buffered standstill: nothing goes on while the loop's body waits
//!
//! Ten downloads at once with `buffer_unordered`, and each result is stored as it comes. The
//! downloads look as if they ran in the background. But only `next` polls them: while the body of
//! the loop stores, all ten stand still, and the clock goes on.
//!
//! ## You have it when
//! - fast calls end in `deadline has elapsed`, and only when something slow comes after them;
//! - peers close connections for being idle, though there was something to read;
//! - it hangs for ever when the body needs a connection, a permit or a lock of those that the calls
//!   use.
//!
//! ## What it does to you
//! - Ten calls of at most 100 ms, each with a limit of 200 ms, and a body of 500 ms: 9 of 10 fail
//!   with a timeout. Without the body, none.
//! - With a pool of two connections, for calls and body alike, the body waits for ever: the free
//!   one was handed to a call that nobody polls.
//!
//! ## Use instead
//! - `concurrent_map`: `results.during(store(result)).await` polls the calls while it stores;
//! - `spawn_batch` or `join_set`, which give each call a task of its own.

use std::pin::pin;

use futures_util::{StreamExt, stream};

/// Makes calls, so many at once, and stores each result as it comes.
pub async fn fetch_and_store<J, R, F: Future<Output = R>>(
    jobs: impl IntoIterator<Item = J>,
    at_once: usize,
    fetch: impl FnMut(J) -> F,
    mut store: impl AsyncFnMut(R),
) {
    let fetches = stream::iter(jobs).map(fetch);
    let mut results = pin!(fetches.buffer_unordered(at_once));
    while let Some(result) = results.next().await {
        store(result).await; // no call is polled meanwhile
    }
}
