//! cargo run --example retry_storm
//!
//! A thousand requests during an outage: with three tries in each of three layers, and with as many
//! tries in one layer that asks a budget. How many calls reach the server that is down?

use std::cell::Cell;
use std::future::ready;
use std::num::NonZeroU32;
use std::time::Duration;

use antipatterns::retry_storm::show_user;
use retry::backoff::{Policy, retry};
use retry::retry_budget::{RetryBudget, Settings};

const POLICY: Policy = Policy {
    base: Duration::from_millis(10),
    cap: Duration::from_secs(1),
    tries: NonZeroU32::new(27).unwrap(),
    total: Duration::from_secs(60),
};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let calls = Cell::new(0);
    let fail = || {
        calls.set(calls.get() + 1);
        ready(Err::<(), _>("down"))
    };
    for _ in 0..1000 {
        show_user(fail).await.ok();
    }
    println!(
        "in three layers: {} calls for 1000 requests",
        calls.replace(0)
    );

    // A tenth of the requests may be tried again, whatever fails.
    let budget = RetryBudget::new(Settings {
        percent: 10,
        per_second: 0,
        saved: 10,
    });
    let judge = |_: &_| budget.try_retry().then_some(Duration::ZERO);
    for seed in 0..1000 {
        budget.request();
        let random = fastrand::Rng::with_seed(seed); // in production: Rng::new()
        retry(&POLICY, random, judge, |_| fail()).await.ok();
    }
    println!("with a budget:   {} calls for 1000 requests", calls.get());
}
