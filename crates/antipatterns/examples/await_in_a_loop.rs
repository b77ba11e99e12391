//! cargo run --example await_in_a_loop
//!
//! Ten calls of 100 ms each, then ten thousand of them to a server with room for a thousand.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use antipatterns::await_in_a_loop::{fetch_all, fetch_each};
use tasks::spawn_batch::spawn_batch;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// False: the server has refused it.
async fn call(server: Arc<Semaphore>) -> bool {
    let Ok(_place) = server.try_acquire() else {
        return false;
    };
    sleep(Duration::from_millis(100)).await;
    true
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let server = Arc::new(Semaphore::new(1_000));
    let fetch = |_: u32| call(Arc::clone(&server));
    let limit = NonZeroUsize::MIN.saturating_add(999);

    let started = Instant::now();
    fetch_each((0..10).collect(), fetch).await;
    println!("await in a loop: 10 calls take {:?}", started.elapsed());
    let started = Instant::now();
    spawn_batch(limit, 0..10, fetch).await;
    println!("spawn_batch:     10 calls take {:?}", started.elapsed());

    let answers = fetch_all((0..10_000).collect(), fetch).await;
    let refused = answers.into_iter().filter(|answer| !answer).count();
    println!("join_all:        {refused} of 10000 calls are refused");
    let answers = spawn_batch(limit, 0..10_000, fetch).await;
    let refused = answers
        .into_iter()
        .filter(|answer| *answer != Ok(true))
        .count();
    println!("spawn_batch:     {refused} of 10000 calls are refused");
}
