//! cargo run --example retry_layer
//!
//! A request that fails twice for a reason that passes, and one that cannot succeed. Then an outage: a
//! hundred requests fail, of which each may be tried again three times, and the budget allows ten
//! retries in all. The clock is virtual, and the waits are drawn from a seed.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use middleware::retry_layer::{Limits, budget, retry_layer};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

#[derive(Debug, Clone, PartialEq)]
enum PayError {
    Busy,
    NoMoney,
}

fn judge(_: &&str, result: &Result<u32, PayError>) -> Option<Duration> {
    match result {
        Err(PayError::Busy) => Some(Duration::ZERO),
        Ok(_) | Err(PayError::NoMoney) => None,
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    fastrand::seed(7); // so that this prints the same on every run
    let started = Instant::now();
    let limits = Limits {
        retries: 3,
        base: Duration::from_millis(100),
        cap: Duration::from_secs(2),
    };
    let budget = budget(NonZeroU16::MIN.saturating_add(9), 0);
    let tries = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&tries);
    let pay = service_fn(move |request: &'static str| {
        let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            let result = match request {
                "rent" if number > 22 => Ok(number),
                "yacht" => Err(PayError::NoMoney),
                "ping" if number <= 20 => Ok(number),
                _ => Err(PayError::Busy),
            };
            if number > 20 && request != "ping" {
                println!(
                    "{:>4} ms  {request}: {result:?}",
                    started.elapsed().as_millis()
                );
            }
            result
        }
    });
    let service = retry_layer(limits, budget, judge).layer(pay);

    for _ in 0..20 {
        service.clone().oneshot("ping").await.ok(); // pays for two retries
    }
    for request in ["rent", "yacht"] {
        service.clone().oneshot(request).await.ok();
    }

    let before = tries.load(Ordering::Relaxed);
    let mut outage = JoinSet::new();
    for _ in 0..100 {
        outage.spawn(service.clone().oneshot("ping"));
    }
    let failed = outage
        .join_all()
        .await
        .iter()
        .filter(|it| it.is_err())
        .count();
    let sent = tries.load(Ordering::Relaxed) - before;
    println!("outage: {failed} of 100 requests failed, {sent} were sent");
}
