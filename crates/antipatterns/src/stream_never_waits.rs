//! # A stream that never waits: a timeout that does not come
//!
//! A list is worked through in an async function, with a time limit around it. Most of it is in a
//! cache, so the calls are ready at once. Then no await ever waits: the timer of the limit is not
//! looked at, nor is anything else on this thread.
//!
//! ## You have it when
//! - a `timeout` around a long loop is ignored, or comes minutes late;
//! - the service does not answer while a job runs that "only awaits";
//! - `futures_util::stream::iter`, `repeat` or `unfold` feeds a loop whose calls are often ready.
//!
//! ## What it does to you
//! - With a limit of 0 ms, 1,000,000 items are worked through, and the result is `Ok`.
//! - Another task on the thread has 0 turns meanwhile.
//! - With one call in 100 that really waits, the other task has its turns, so its test passes.
//!
//! ## Use instead
//! - `from_iter_and_interval`: its `cooperative` around the stream, or tokio-stream's `iter`, which
//!   gives way by itself;
//! - `cpu_offload` if it is the items that take long.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// Calls `index` with each item, for `limit` at most.
///
/// # Errors
///
/// [`Elapsed`] when the limit has passed.
pub async fn index_all<T, F: Future<Output = ()>>(
    items: impl IntoIterator<Item = T>,
    limit: Duration,
    index: impl FnMut(T) -> F,
) -> Result<(), Elapsed> {
    timeout(limit, stream::iter(items).for_each(index)).await // one poll, if no call waits
}
