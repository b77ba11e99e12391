//! cargo run --example kept_sender
//!
//! Three jobs of 100 ms each; the function that collects their results still has a sender.

use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::kept_sender::do_all;
use channels::work_queue::{Closed, Limits, work_queue};
use tokio::time::{Instant, sleep, timeout};

async fn job(number: u32) -> u32 {
    sleep(Duration::from_millis(100)).await;
    number
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Closed<u32>> {
    let day = Duration::from_secs(24 * 3_600);
    match timeout(day, do_all(vec![1, 2, 3], job)).await {
        Ok(results) => println!("kept sender: {} results", results.len()),
        Err(_) => println!("kept sender: still waiting after a day"),
    }

    let started = Instant::now();
    let limits = Limits {
        workers: NonZeroUsize::MIN.saturating_add(2),
        capacity: NonZeroUsize::MIN,
    };
    let (queue, mut outcomes) = work_queue(limits, job);
    for number in 1..=3 {
        queue.push(number).await?;
    }
    outcomes.close();
    let mut results = 0;
    while let Some(outcome) = outcomes.next().await {
        results += u32::from(outcome.result.is_ok());
    }
    let took = started.elapsed();
    println!("work_queue:  {results} results after {took:?}, and the sender is still there");
    drop(queue);
    Ok(())
}
