//! # Retry layer: RetryLayer with a policy and a budget
//!
//! A request that failed for a reason that passes is sent again by the stack, not by each caller.
//! tower has the loop, a backoff with jitter and a budget; what is to be tried again is a policy of
//! yours. Put together as their names suggest, all requests of the process wait for the very same
//! "random" times, and a budget of `20.0` per cent allows twenty retries for each request. Here is a
//! policy that has neither fault.
//!
//! ## Use it when
//! - requests pass through tower services, can be cloned, and may be sent twice.
//!
//! ## Use something else when
//! - no service is involved: `backoff` and `retry_budget`; HTTP with `Retry-After`: `retry_http`;
//! - the other side should be left alone while it is down: `circuit_breaker`.
//!
//! ## Add to your project
//! ```console
//! cargo add fastrand
//! cargo add tokio --features time
//! cargo add tower --features retry
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - tower's `ExponentialBackoffMaker` clones its generator for each request, and the clone is in the
//!   same state: a thousand requests that fail together come back together, jitter or not. Whole
//!   seconds get no jitter from a factor below 1, nor do waits that have reached the maximum.
//! - `TpsBudget::new` panics for a `ttl` of less than a second or more than 60, and takes a share, not
//!   per cent. Of shares below 1 those above a half are all of them: 0.6 allows a retry for each.
//! - Deposit once for each request. A policy that deposits for each try lets retries pay for retries.
//! - Without a time limit below, a silent try is never tried again; without one above, tries and
//!   waits add up. A concurrency limit above holds its place through all of them, one below does not.
//! - Before each try the service is asked whether it is ready. If it fails there, the policy is not
//!   asked, and the error is the answer.
//! - The request is cloned before each try, the last one too: keep large bodies in `Bytes`.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use tower::retry::budget::{Budget, TpsBudget};
use tower::retry::{Policy, RetryLayer};

/// How often to try again, and how long to wait before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Tries after the first one.
    pub retries: u32,
    /// The wait before the first of them is a random one up to this. It doubles with each further one.
    pub base: Duration,
    /// No wait of its own choice is longer. If the other side wants to be left alone for longer than
    /// this, the request is not tried again.
    pub cap: Duration,
}

/// Tries again what `judge` says is worth it, within its limits and the budget. Clones share the
/// budget.
#[derive(Debug, Clone)]
pub struct RetryPolicy<J> {
    limits: Limits,
    budget: Arc<TpsBudget>,
    judge: J,
    /// tower clones the policy for each request, so this counts the retries of one.
    retries: u32,
}

/// A budget of one retry for every `one_in` requests of the last ten seconds, and `per_second` more
/// for those who send few. Make one for each destination, and share it.
///
/// What `per_second` allows within ten seconds may be used at once.
#[must_use]
pub fn budget(one_in: NonZeroU16, per_second: u16) -> Arc<TpsBudget> {
    // tower takes the inverse and cuts off the fraction, which makes 6 of 1 / (1 / 7) = 6.9999995. The
    // half keeps it on the right side.
    let share = 1.0 / (f32::from(one_in.get()) + 0.5);
    let budget = TpsBudget::new(Duration::from_secs(10), per_second.into(), share);
    Arc::new(budget)
}

/// A layer that tries again, paid for by `budget`.
///
/// `judge` sees each request with its result: `None` if that is the answer, `Some(wait)` if it should
/// be tried again, after `wait` at least, because the other side said so; zero if it did not. Only it
/// can know whether the request may be sent twice. It is cloned for each request: what it counts
/// belongs in an `Arc`.
///
/// Dropped while it waits, a request is not tried again.
#[must_use]
pub fn retry_layer<Req, Res, E, J>(
    limits: Limits,
    budget: Arc<TpsBudget>,
    judge: J,
) -> RetryLayer<RetryPolicy<J>>
where
    J: Fn(&Req, &Result<Res, E>) -> Option<Duration> + Clone,
{
    RetryLayer::new(RetryPolicy {
        limits,
        budget,
        judge,
        retries: 0,
    })
}

impl<J, Req, Res, E> Policy<Req, Res, E> for RetryPolicy<J>
where
    J: Fn(&Req, &Result<Res, E>) -> Option<Duration>,
    Req: Clone,
{
    type Future = Sleep;

    fn retry(&mut self, request: &mut Req, result: &mut Result<Res, E>) -> Option<Sleep> {
        let Limits { retries, base, cap } = self.limits;
        if self.retries == 0 {
            self.budget.deposit();
        }
        let at_least = (self.judge)(request, result)?;
        if self.retries >= retries || at_least > cap {
            return None;
        }
        // Last, since what it gives out is used.
        if !self.budget.withdraw() {
            tracing::warn!(retries = self.retries, "no retry: the budget is used up");
            return None;
        }
        let ceiling = base
            .saturating_mul(2_u32.saturating_pow(self.retries))
            .min(cap);
        self.retries += 1;
        tracing::debug!(retries = self.retries, "trying again");
        // 64 bits of nanoseconds are 584 years. The generator is the thread's: seeded by chance, and
        // in another state each time.
        let ceiling = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        let wait = Duration::from_nanos(fastrand::u64(0..=ceiling));
        Some(sleep(at_least.saturating_add(wait)))
    }

    fn clone_request(&mut self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}
