//! # First success: a race that keeps the errors
//!
//! Several mirrors have the file, two resolvers know the name, a slow replica can be hedged with
//! another. The first good answer is wanted, an error only if there is none. A `select!` over the
//! alternatives ends with the first *result*, and the quickest result is often an error: "connection
//! refused" beats every answer. Here the first `Ok` wins, the losers are dropped, and no error is.
//!
//! ## Use it when
//! - any one of several sources will do: mirrors, addresses of one host, replicas;
//! - a spare attempt should start when the first is slow (hedging), or has failed (fallback).
//!
//! ## Use something else when
//! - the same source is asked again after a failure: `backoff`;
//! - all the results are wanted: `spawn_batch`, `join_set`;
//! - the answers are of different kinds, and each has its own branch: `event_loop`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features macros,time
//! ```
//!
//! ## Watch out
//! - A `select!` over the alternatives lets one that is down answer for all: `select_ok_or_first`.
//! - The losers are dropped at an await: they must be requests whose half-done rest does no harm. A
//!   race of two payments pays twice.
//! - A loser that is a `JoinHandle` goes on: dropping it detaches its task, as in `dropped_handle`.
//!   Race the futures themselves, or wrap the handle in tokio-util's `AbortOnDropHandle`.
//! - `select_ok` of futures-util gives the last error and drops the others.
//! - The attempts share the caller's task: one that computes without awaiting holds up all of them.
//! - A race has no limit of its own. Attempts that neither fail nor end keep it waiting: `deadline`.

use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use thiserror::Error;
use tokio::select;
use tokio::time::{Instant, sleep_until};

/// What the clock can add up to now on every platform: 30 years.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The attempt that won.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Won<T, E> {
    /// Which attempt it was, counted from 0.
    pub attempt: usize,
    /// What it returned.
    pub value: T,
    /// The attempts that failed before, as they failed.
    pub failed: Vec<(usize, E)>,
}

/// Every attempt failed, or there was none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", describe(errors))]
pub struct AllFailed<E: Display> {
    /// The error of each attempt, in the attempts' order.
    pub errors: Vec<E>,
}

/// Runs `attempts` until one returns `Ok`. The first begins at once, and each next one `stagger`
/// after the one before, or at once if that attempt, and every other that has begun, has failed.
///
/// A `stagger` of zero starts all together, `Duration::MAX` starts the next only after a failure. The
/// attempts are taken from the iterator as they begin, so a lazy one makes no future in vain. When
/// several are ready at once, the one that was woken first counts.
///
/// # Errors
///
/// [`AllFailed`] with every error, once the last attempt has failed; without one if there was no
/// attempt.
///
/// # Panics
///
/// If an attempt does, which drops the others. If polled outside of a Tokio runtime, or in one
/// without timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it drops every attempt that has begun, and the errors so far.
pub async fn first_success<T, E: Display, F>(
    attempts: impl IntoIterator<Item = F>,
    stagger: Duration,
) -> Result<Won<T, E>, AllFailed<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut attempts = attempts.into_iter().enumerate().fuse();
    let mut running = FuturesUnordered::new();
    let mut failed = Vec::new();
    let mut more = true;
    let mut timer = pin!(sleep_until(Instant::now()));

    loop {
        while more && (running.is_empty() || timer.deadline() <= Instant::now()) {
            match attempts.next() {
                Some((attempt, future)) => running.push(async move { (attempt, future.await) }),
                None => more = false,
            }
            timer.as_mut().reset(Instant::now() + stagger.min(FAR));
        }
        select! {
            Some((attempt, result)) = running.next() => match result {
                Ok(value) => return Ok(Won { attempt, value, failed }),
                Err(error) => failed.push((attempt, error)),
            },
            () = &mut timer, if more => {}
            else => {
                failed.sort_by_key(|(attempt, _)| *attempt);
                let errors = failed.into_iter().map(|(_, error)| error).collect();
                return Err(AllFailed { errors });
            }
        }
    }
}

fn describe<E: Display>(errors: &[E]) -> String {
    match errors {
        [] => "there was no attempt: nothing to choose from".to_owned(),
        [error] => format!("the only attempt failed: {error}"),
        [first, others @ ..] => {
            let mut text = format!("all {} attempts failed: {first}", errors.len());
            for error in others {
                text.push_str("; ");
                text.push_str(&error.to_string());
            }
            text
        }
    }
}
