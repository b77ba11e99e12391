//! # A time limit that does not count the wait: `timeout` and `concurrency_limit`
//!
//! A service of tower gets a time limit and a limit of concurrency, one below the other. The time
//! limit stands outside, so that it includes everything; or inside, since that read better. Either
//! way it begins when there is a place: a limit of concurrency waits in `poll_ready`, before `call`.
//!
//! ## You have it when
//! - under load callers wait for seconds, with a limit of 100 ms that the metrics say is kept;
//! - `request timed out` comes long after the time that it names;
//! - when something behind the service is slow, requests pile up in front of it without a bound.
//!
//! ## What it does to you
//! - Ten callers, one at a time, 80 ms each, a limit of 100 ms: the last of them is answered after
//!   800 ms, and none of the ten is told that it was late.
//! - If the service hangs, the last is told after 1,000 ms.
//! - It makes no difference which of the two is outside.
//!
//! ## Use instead
//! - `stack`, the order that holds: a buffer between the two makes the wait a part of the call;
//! - `timeout_layer`, if nothing else is wanted, or tokio's `timeout` around `ready` and `call`.

use std::time::Duration;

use tower::ServiceBuilder;
use tower::limit::ConcurrencyLimit;
use tower::timeout::Timeout;

/// At most so many calls at once, each within the time limit.
pub fn timeout_outside<S>(
    service: S,
    at_once: usize,
    limit: Duration,
) -> Timeout<ConcurrencyLimit<S>> {
    ServiceBuilder::new()
        .timeout(limit) // its clock starts in `call`, when the limit below has let the caller in
        .concurrency_limit(at_once)
        .service(service)
}

/// The same the other way round.
pub fn limit_outside<S>(
    service: S,
    at_once: usize,
    limit: Duration,
) -> ConcurrencyLimit<Timeout<S>> {
    ServiceBuilder::new()
        .concurrency_limit(at_once)
        .timeout(limit)
        .service(service)
}
