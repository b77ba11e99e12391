//! cargo run --example block_in_async
//!
//! A job that takes until a timer of 5 ms has come, or a second if none does: on the thread that
//! looks after the timers, and beside it.

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use antipatterns::block_in_async::respond;
use runtime::cpu_offload::CpuPool;
use tokio::task::yield_now;
use tokio::time::sleep;

/// Stands for a slow call: blocks its thread until the timer has come, a second at most.
fn job(timer: &Receiver<()>) -> &'static str {
    match timer.recv_timeout(Duration::from_secs(1)) {
        Ok(()) => "came meanwhile",
        Err(_) => "had not come after 1 s",
    }
}

/// A timer of 5 ms, and where one sees that it came.
async fn timer() -> Receiver<()> {
    let (came, seen) = sync_channel(1);
    tokio::spawn(async move {
        sleep(Duration::from_millis(5)).await;
        came.send(()).ok();
    });
    yield_now().await; // now it waits
    seen
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let seen = timer().await;
    let blocked = respond(|| job(&seen)).await;
    println!("in place:    the timer of 5 ms {blocked}");

    let pool = CpuPool::new(NonZeroUsize::MIN);
    let seen = timer().await;
    let offloaded = pool.run(move |_| job(&seen)).await;
    match offloaded {
        Ok(said) => println!("cpu_offload: the timer of 5 ms {said}"),
        Err(error) => println!("cpu_offload: {error}"),
    }
}
