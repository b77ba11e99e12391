//! # Await in a loop: one after another, and then all at once
//!
//! A page needs ten answers that have nothing to do with each other. They are awaited in a loop, so
//! each call begins when the one before it is done. Somebody makes the futures first and awaits
//! them afterwards, which changes nothing: a future does nothing before its first poll. Then
//! somebody finds `join_all`, and on the day that the list is long the server falls over.
//!
//! ## You have it when
//! - a request takes as long as all its calls together, and no machine is busy;
//! - `.await` stands in a `for` over independent inputs, or several in a row that need nothing of
//!   each other;
//! - or, after `join_all`: `Too many open files`, `Connection refused`, status 429, when there is
//!   much.
//!
//! ## What it does to you
//! - 10 calls of 100 ms take 1 s instead of 100 ms.
//! - Two futures made first and awaited afterwards take 200 ms: the second began after the first.
//! - `join_all` over 10,000 inputs has 10,000 calls under way: a server with room for 1,000 refuses
//!   the other 9,000.
//!
//! ## Use instead
//! - `spawn_batch`: all inputs, a limit, the results in the order of the inputs;
//! - `concurrent_map` for calls that borrow, `fan_out` for inputs that come as a stream;
//! - `tokio::join!` for a few calls of different types.

use futures_util::future::join_all;

/// Fetches each.
pub async fn fetch_each<J, R, F>(ids: Vec<J>, fetch: impl Fn(J) -> F) -> Vec<R>
where
    F: Future<Output = R>,
{
    let mut all = Vec::new();
    for id in ids {
        all.push(fetch(id).await); // the next call begins when this one is done
    }
    all
}

/// Starts both, then waits for both: so it would be in JavaScript.
pub async fn fetch_both<J, R, F>(first: J, second: J, fetch: impl Fn(J) -> F) -> (R, R)
where
    F: Future<Output = R>,
{
    let (first, second) = (fetch(first), fetch(second)); // neither has begun
    (first.await, second.await)
}

/// Fetches all at once.
#[expect(
    clippy::disallowed_methods,
    reason = "join_all has no limit: this house's clippy.toml names it for that"
)]
pub async fn fetch_all<J, R, F>(ids: Vec<J>, fetch: impl Fn(J) -> F) -> Vec<R>
where
    F: Future<Output = R>,
{
    join_all(ids.into_iter().map(fetch)).await // as many calls as there are ids
}
