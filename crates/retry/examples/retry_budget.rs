//! cargo run --example retry_budget
//!
//! A thousand requests, a hundred a second, of which each may be tried three times. First one in
//! fifty fails, then all of them. What does the server see? The clock is virtual, so it ends at once.

use std::time::Duration;

use retry::retry_budget::{RetryBudget, Settings};
use tokio::time::sleep;

const SETTINGS: Settings = Settings {
    percent: 10,
    per_second: 1,
    saved: 20,
};

/// How many calls reach the server, and how many requests fail in the end.
async fn requests(budget: Option<&RetryBudget>, fails: impl Fn(u32) -> bool) -> (u32, u32) {
    let (mut calls, mut failed) = (0, 0);
    for _ in 0..1000 {
        sleep(Duration::from_millis(10)).await;
        if let Some(budget) = budget {
            budget.request();
        }
        let mut tries = 1;
        calls += 1;
        while fails(calls) {
            if tries == 3 || !budget.is_none_or(RetryBudget::try_retry) {
                failed += 1;
                break;
            }
            tries += 1;
            calls += 1;
        }
    }
    (calls, failed)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let one_in_fifty = |call| call % 50 == 0;
    let every_one = |_| true;
    for name in ["three tries", "with a budget"] {
        let budget = RetryBudget::new(SETTINGS);
        let budget = (name == "with a budget").then_some(&budget);
        let (calls, failed) = requests(budget, one_in_fifty).await;
        println!("{name:13}  one in fifty fails: {calls} calls, {failed} requests failed");
        let (calls, failed) = requests(budget, every_one).await;
        println!("{name:13}  an outage:          {calls} calls, {failed} requests failed");
        if let Some(budget) = budget {
            println!("{:?}", budget.counts());
        }
    }
}
