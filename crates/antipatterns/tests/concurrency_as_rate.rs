//! How many calls a second a semaphore lets through.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antipatterns::concurrency_as_rate::Client;
use sync::limit_rate::{Rate, RateLimiter};
use tokio::task::JoinSet;
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// How many calls begin within so many seconds, if a hundred callers make one after the other.
async fn calls<F>(seconds: u32, call: impl Fn(Arc<AtomicU32>) -> F) -> u32
where
    F: Future<Output = ()> + Send + 'static,
{
    let begun = Arc::new(AtomicU32::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        callers.spawn(call(Arc::clone(&begun)));
    }
    sleep(seconds * SECOND - MS / 2).await;
    callers.shutdown().await;
    begun.load(Ordering::Relaxed)
}

async fn with_ten_permits(seconds: u32, takes: Duration) -> u32 {
    let client = Arc::new(Client::new(10));
    let call = |begun: Arc<AtomicU32>| {
        let client = Arc::clone(&client);
        async move {
            loop {
                let request = async {
                    begun.fetch_add(1, Ordering::Relaxed);
                    sleep(takes).await;
                };
                client.call(request).await;
            }
        }
    };
    calls(seconds, call).await
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_second_are_ten_a_second() {
    assert_eq!(with_ten_permits(5, SECOND).await, 5 * 10);
}

#[tokio::test(start_paused = true)]
async fn harm_calls_of_ten_milliseconds_are_a_thousand_a_second() {
    assert_eq!(with_ten_permits(1, 10 * MS).await, 1_000);
}

#[tokio::test(start_paused = true)]
async fn harm_refusals_are_ten_thousand_a_second() {
    assert_eq!(with_ten_permits(1, MS).await, 10_000);
}

#[tokio::test(start_paused = true)]
async fn harm_calls_of_five_seconds_are_two_a_second() {
    assert_eq!(with_ten_permits(10, 5 * SECOND).await, 10 * 2);
}

#[tokio::test(start_paused = true)]
async fn mended_they_are_ten_a_second_however_long_they_take() {
    for takes in [MS, 10 * MS, SECOND, 5 * SECOND] {
        let limiter = RateLimiter::new(Rate {
            calls: NonZeroU32::new(10).unwrap(),
            period: SECOND,
            burst: NonZeroU32::new(2).unwrap(),
        });
        let limiter = limiter.unwrap();
        let call = |begun: Arc<AtomicU32>| {
            let limiter = limiter.clone();
            async move {
                loop {
                    limiter.ready().await;
                    begun.fetch_add(1, Ordering::Relaxed);
                    sleep(takes).await;
                }
            }
        };
        assert_eq!(
            calls(5, call).await,
            5 * 10 + 1,
            "one by the burst, {takes:?}"
        );
    }
}
