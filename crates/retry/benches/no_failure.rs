//! cargo bench -p retry --bench no_failure
//!
//! What the retries cost a call that succeeds at once, which is nearly all of them. Each row makes
//! 1,000 calls one after another; compare the medians.

use std::future::ready;
use std::hint::black_box;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use divan::Bencher;
use divan::counter::ItemsCount;
use retry::circuit_breaker::{CircuitBreaker, Settings};
use retry::retry_budget::{RetryBudget, Settings as Share};
use retry::{backoff, backon_retry};
use tokio::runtime::Builder;

const CALLS: usize = 1_000;
const BASE: Duration = Duration::from_millis(100);
const CAP: Duration = Duration::from_secs(2);
const TOTAL: Duration = Duration::from_secs(10);

fn main() {
    divan::main();
}

async fn call() -> Result<u64, u64> {
    ready(black_box(Ok(7))).await
}

fn always(_: &u64) -> Option<Duration> {
    Some(Duration::ZERO)
}

#[expect(
    clippy::expect_used,
    reason = "a benchmark without its runtime has nothing to do"
)]
fn bench(bencher: Bencher<'_, '_>, one: impl AsyncFn() -> Option<u64>) {
    let runtime = Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    bencher.counter(ItemsCount::new(CALLS)).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..CALLS {
                black_box(one().await);
            }
        });
    });
}

#[divan::bench]
fn bare_call(bencher: Bencher<'_, '_>) {
    bench(bencher, async || call().await.ok());
}

#[divan::bench]
fn bare_call_with_a_timeout(bencher: Bencher<'_, '_>) {
    bench(bencher, async || {
        let limited = tokio::time::timeout(TOTAL, call()).await;
        limited.ok()?.ok()
    });
}

#[divan::bench]
fn bare_backon(bencher: Bencher<'_, '_>) {
    bench(bencher, async || {
        call.retry(ExponentialBuilder::default().with_jitter())
            .await
            .ok()
    });
}

#[divan::bench]
fn backon_recipe(bencher: Bencher<'_, '_>) {
    let policy = backon_retry::Policy {
        base: BASE,
        cap: CAP,
        tries: NonZeroUsize::MIN.saturating_add(4),
        total: TOTAL,
    };
    bench(bencher, async || {
        backon_retry::retry(&policy, always, |_, _| {}, call)
            .await
            .ok()
    });
}

#[divan::bench]
fn backoff_recipe(bencher: Bencher<'_, '_>) {
    let policy = backoff::Policy {
        base: BASE,
        cap: CAP,
        tries: NonZeroU32::MIN.saturating_add(4),
        total: TOTAL,
    };
    bench(bencher, async || {
        let random = fastrand::Rng::new();
        backoff::retry(&policy, random, always, async |_| call().await)
            .await
            .ok()
    });
}

#[divan::bench]
fn budget_recipe(bencher: Bencher<'_, '_>) {
    let budget = RetryBudget::new(Share {
        percent: 10,
        per_second: 1,
        saved: 20,
    });
    bench(bencher, async || {
        budget.request();
        call().await.ok()
    });
}

#[divan::bench]
fn breaker_recipe(bencher: Bencher<'_, '_>) {
    let breaker = CircuitBreaker::new(Settings {
        window: NonZeroUsize::MIN.saturating_add(99),
        failures: NonZeroUsize::MIN.saturating_add(49),
        open: CAP,
        probes: NonZeroU32::MIN,
    });
    bench(bencher, async || {
        breaker.call(TOTAL, |_| true, call()).await.ok()
    });
}
