//! cargo run --example concurrency_as_rate
//!
//! A provider allows 10 calls a second. How many begin within ten seconds behind a semaphore with
//! ten permits, and behind a rate limiter, if a call takes 10 ms, 1 s, or 5 s?

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antipatterns::concurrency_as_rate::Client;
use sync::limit_rate::{Rate, RateLimiter, ZeroPeriod};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The calls of 100 callers; each calls again when its call is done.
async fn begun(limiter: Option<RateLimiter>, takes: Duration) -> u32 {
    let client = Arc::new(Client::new(10));
    let begun = Arc::new(AtomicU32::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let (client, limiter, begun) = (client.clone(), limiter.clone(), begun.clone());
        callers.spawn(async move {
            loop {
                let request = async {
                    begun.fetch_add(1, Ordering::Relaxed);
                    sleep(takes).await;
                };
                if let Some(limiter) = &limiter {
                    limiter.ready().await;
                    request.await;
                } else {
                    client.call(request).await;
                }
            }
        });
    }
    sleep(Duration::from_micros(9_999_500)).await;
    begun.load(Ordering::Relaxed)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), ZeroPeriod> {
    for millis in [10, 1_000, 5_000] {
        let takes = Duration::from_millis(millis);
        let limiter = RateLimiter::new(Rate {
            calls: NonZeroU32::new(10).unwrap_or(NonZeroU32::MIN),
            period: Duration::from_secs(1),
            burst: NonZeroU32::MIN.saturating_add(1),
        })?;
        let (semaphore, limit_rate) = (begun(None, takes).await, begun(Some(limiter), takes).await);
        println!("{millis:>4} ms each: semaphore {semaphore:>5}, limit_rate {limit_rate:>3}");
    }
    Ok(())
}
