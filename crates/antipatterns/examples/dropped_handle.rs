//! cargo run --example dropped_handle
//!
//! A payment takes 250 ms, its limit is 100 ms, and it is tried three times. The caller is told
//! that none was made. How many were?

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antipatterns::dropped_handle::call_with_limit;
use shutdown::abort_tasks::{End, StillRunning, stop};
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(60);

async fn pay(paid: Arc<AtomicU32>) -> &'static str {
    sleep(Duration::from_millis(250)).await;
    paid.fetch_add(1, Ordering::Relaxed);
    "paid"
}

/// The same with each task stopped once its time is over.
async fn call_and_stop(
    paid: &Arc<AtomicU32>,
) -> Result<Option<&'static str>, StillRunning<&'static str>> {
    for _ in 0..3 {
        let mut task = tokio::spawn(pay(Arc::clone(paid)));
        if let Ok(Ok(value)) = timeout(LIMIT, &mut task).await {
            return Ok(Some(value));
        }
        if let End::Finished(value) = stop(task, LIMIT).await? {
            return Ok(Some(value)); // done at that very moment
        }
    }
    Ok(None)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), StillRunning<&'static str>> {
    let paid = Arc::new(AtomicU32::new(0));
    let told = call_with_limit(LIMIT, 3, || pay(Arc::clone(&paid))).await;
    sleep(LATER).await;
    println!("handle dropped: told {told:?}, paid {paid:?} times");

    let paid = Arc::new(AtomicU32::new(0));
    let told = call_and_stop(&paid).await?;
    sleep(LATER).await;
    println!("task stopped:   told {told:?}, paid {paid:?} times");
    Ok(())
}
