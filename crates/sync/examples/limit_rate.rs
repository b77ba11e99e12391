//! cargo run --example limit_rate
//!
//! A provider allows ten calls a second, three of them at once. Six calls that come together are
//! spread, a batch of three waits until all of it is allowed, a caller without patience is told when
//! to come back, and a pause earns the burst again. The clock is virtual, so it ends at once.

use std::num::NonZeroU32;
use std::time::Duration;

use sync::limit_rate::{Rate, RateLimiter};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let at = move || format!("{:>5} ms", started.elapsed().as_millis());
    let three = NonZeroU32::MIN.saturating_add(2);
    let limiter = RateLimiter::new(Rate {
        calls: NonZeroU32::MIN.saturating_add(9),
        period: Duration::from_secs(1),
        burst: three,
    })?;

    let mut calls = JoinSet::new();
    for call in 1..=6 {
        let limiter = limiter.clone();
        calls.spawn(async move {
            limiter.ready().await;
            println!("{}  call {call}", at());
        });
    }
    calls.join_all().await;

    limiter.ready_for(three).await?;
    println!("{}  a batch of three", at());
    if let Err(not_yet) = limiter.try_now() {
        println!("{}  {not_yet}", at());
        sleep(not_yet.after).await;
    }
    limiter.try_now()?;
    println!("{}  tried again", at());

    sleep(Duration::from_secs(60)).await;
    for call in 7..=10 {
        limiter.ready().await;
        println!("{}  call {call}", at());
    }
    Ok(())
}
