//! cargo run --example paid_twice
//!
//! A bank needs 1.2 s for a payment, and the payer waits for 1 s. The clock is virtual.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use antipatterns::paid_twice::pay;
use errors::retryable::Retryable;
use retry::backoff::{Policy, retry};
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(1);

const POLICY: Policy = Policy {
    base: LIMIT,
    cap: LIMIT,
    tries: NonZeroU32::new(3).unwrap(),
    total: Duration::from_secs(60),
};

/// Sends a payment. The bank carries out what it has received, whoever waits for the answer.
async fn post(booked: &Arc<AtomicU32>) -> io::Result<()> {
    let booked = Arc::clone(booked);
    let carried_out = tokio::spawn(async move {
        sleep(Duration::from_millis(1200)).await;
        booked.fetch_add(1, Relaxed);
    });
    Ok(carried_out.await?)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let booked = Arc::default();
    let told = pay(|| post(&booked)).await;
    sleep(2 * LIMIT).await;
    println!(
        "sent again: booked {}, told {told:?}",
        booked.swap(0, Relaxed)
    );

    let judge = |error: &io::Error| error.retry().wait_at_least(false); // it has no key
    let random = fastrand::Rng::new();
    let told = retry(&POLICY, random, judge, async |_| {
        timeout(LIMIT, post(&booked)).await?
    })
    .await;
    sleep(2 * LIMIT).await;
    println!("retryable:  booked {}, told {told:?}", booked.load(Relaxed));
}
