//! cargo run --example shared_receiver_lock
//!
//! Eight jobs of 100 ms, four workers.

use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::shared_receiver_lock::start_workers;
use channels::work_queue::{Closed, Limits, work_queue};
use tokio::sync::mpsc::channel;
use tokio::time::{Instant, sleep};

async fn job(_number: u32) {
    sleep(Duration::from_millis(100)).await;
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Closed<u32>> {
    let started = Instant::now();
    let (sender, jobs) = channel(8);
    for number in 1..=8 {
        sender.try_send(number).ok();
    }
    drop(sender);
    start_workers(4, jobs, job).join_all().await;
    println!("shared receiver: {:?}", started.elapsed());

    let started = Instant::now();
    let limits = Limits {
        workers: NonZeroUsize::MIN.saturating_add(3),
        capacity: NonZeroUsize::MIN.saturating_add(7),
    };
    let (queue, mut outcomes) = work_queue(limits, job);
    for number in 1..=8 {
        queue.push(number).await?;
    }
    drop(queue);
    while outcomes.next().await.is_some() {}
    println!("work_queue:      {:?}", started.elapsed());
    Ok(())
}
