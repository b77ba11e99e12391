//! # Rate limit layer: RateLimitLayer
//!
//! The other side takes ten requests a second. tower's `RateLimitLayer` counts in windows of a fixed
//! length: ten at the end of one and ten at the begin of the next are twenty within a millisecond, and
//! the other side counts otherwise. Its service cannot be cloned either, so each client made of it
//! would have a rate of its own. Here the windows are short ones, and clones share them through a
//! bounded queue.
//!
//! ## Use it when
//! - requests go to something that allows so many per second, and callers can wait for their turn.
//!
//! ## Use something else when
//! - no service is involved, there are costs or keys, or callers are to be told when to come back:
//!   `limit_rate`;
//! - it bears so many at once, however long they take: `concurrency_limit_layer`.
//!
//! ## Add to your project
//! ```console
//! cargo add tower --features buffer,limit
//! ```
//!
//! ## Watch out
//! - `RateLimitLayer::new(10, one_second)` lets 20 requests through within a millisecond, around the
//!   border of two windows.
//! - tower's timers count milliseconds. A window of less than ten is noticeably longer than asked
//!   for: 10,000 per second with a [`burst`](Rate::burst) of 1 are 1,000. Give bursts, here of 100.
//! - Callers wait in the queue, and once it is full in `poll_ready`; neither wait has an end of its
//!   own. Put `timeout_layer` above: who has given up leaves the queue, and uses nothing of the rate.
//! - The rate counts requests as they are sent. Retries below it are not counted; put them above.
//! - Used around two services it is two rates, and each process has its own.
//! - An error of the service's `poll_ready`, or a panic in its `call`, ends the queue for all clones:
//!   see `buffer_layer`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use tower::Service;
use tower::buffer::Buffer;
use tower::limit::RateLimit;
use tower::limit::rate::Rate as Window;

/// How many requests, in what time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many requests…
    pub requests: NonZeroU32,
    /// …in each such time.
    pub per: Duration,
    /// How many of them may be sent at once. With 1 they are sent one by one, at equal distances. More
    /// than that and twice as many can come together; never more than `requests` + twice `burst` in
    /// any time of length `per`.
    pub burst: NonZeroU32,
}

impl Rate {
    /// A rate without bursts.
    #[must_use]
    pub const fn new(requests: NonZeroU32, per: Duration) -> Self {
        Self {
            requests,
            per,
            burst: NonZeroU32::MIN,
        }
    }

    /// The short window: the time that a burst takes at this rate.
    fn window(&self) -> Window {
        let window = (self.per / self.requests.get()).saturating_mul(self.burst.get());
        // None at all would panic, and so would the end of one that the clock cannot count.
        let window = window.clamp(Duration::from_nanos(1), NEVER);
        Window::new(self.burst.get().into(), window)
    }
}

/// About thirty years.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Sends requests to `service` at this rate and no faster; up to `waiting` requests, and one more,
/// wait for their turn. Clones of the result share the rate; tower's own service has none:
///
/// ```compile_fail,E0599
/// # use tower::limit::RateLimit;
/// # struct Client;
/// fn for_two(limited: RateLimit<Client>) -> [RateLimit<Client>; 2] {
///     [limited.clone(), limited]
/// }
/// ```
///
/// The queue is emptied by a task that this starts. **It lives until the last clone is dropped** and
/// every request that somebody still waits for is sent.
///
/// # Panics
///
/// If called outside of a Tokio runtime.
///
/// # Cancel safety
///
/// A call that is dropped before its turn is not sent, and uses nothing of the rate.
#[must_use]
pub fn rate_limited<S, R>(service: S, rate: Rate, waiting: NonZeroUsize) -> Buffer<R, S::Future>
where
    S: Service<R> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<tower::BoxError> + Send + Sync,
    R: Send + 'static,
{
    // The worker asks for readiness only with a request at hand, so a window begins with a request.
    let limited = RateLimit::new(service, rate.window());
    Buffer::new(limited, waiting.get().min(MOST_WAITING))
}

/// What a queue can hold; more would panic.
const MOST_WAITING: usize = usize::MAX >> 3;
