//! # Concurrency as rate: a Semaphore for so many calls a second
//!
//! The provider allows ten calls a second. A semaphore with ten permits is at hand, and a load test
//! against a server that takes a second for each call shows just that. In production a call takes
//! ten milliseconds, and the permits go round a hundred times a second.
//!
//! ## You have it when
//! - the provider answers `429 Too Many Requests`, although "we have a limiter";
//! - the limit was found by trying, and is wrong again when the other side becomes faster;
//! - the calls are the most when the other side refuses, for a refusal is quick.
//!
//! ## What it does to you
//! - With ten permits, calls of 10 ms are 1,000 in a second, a hundred times what is allowed.
//! - Refusals that take 1 ms are 10,000 in a second: the shut door is knocked at hardest.
//! - Calls of 5 s are ten in five seconds, a fifth of what is allowed, and all others wait.
//!
//! ## Use instead
//! - `limit_rate`: counts beginnings by the clock, however long they take;
//! - `limit_concurrency` beside it if too many at once do harm as well. Often both are needed.

use tokio::sync::Semaphore;

/// A client of a service that allows so many calls a second.
#[derive(Debug)]
pub struct Client {
    permits: Semaphore,
}

impl Client {
    /// No more than `per_second`, it is hoped.
    #[must_use]
    pub fn new(per_second: usize) -> Self {
        Self {
            permits: Semaphore::new(per_second),
        }
    }

    /// Makes a call when it is its turn.
    pub async fn call<T>(&self, request: impl Future<Output = T>) -> T {
        let _permit = self.permits.acquire().await;
        request.await // the permit is free again when this is done, be it after a millisecond
    }
}
