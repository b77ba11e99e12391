//! cargo run --example resume
//!
//! A download of ten parts, 28 ms each, in a loop with a heartbeat every 100 ms. Called in a branch
//! it begins anew after each heartbeat; kept in a slot it goes on. The clock is virtual.

use std::cell::Cell;
use std::time::Duration;

use select::resume::Slot;
use tokio::select;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

async fn download(parts: &Cell<u32>) -> &'static str {
    for _ in 0..10 {
        sleep(Duration::from_millis(28)).await;
        parts.set(parts.get() + 1);
    }
    "complete"
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let say = |what: &str| println!("{:>4} ms  {what}", started.elapsed().as_millis());
    let parts = Cell::new(0);
    let mut heartbeat = interval(Duration::from_millis(100));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    heartbeat.tick().await;

    println!("called in the branch");
    for _ in 0..5 {
        select! {
            end = download(&parts) => say(end),
            _ = heartbeat.tick() => say(&format!("heartbeat, {} parts read in all", parts.get())),
        }
    }

    println!("kept in a slot");
    parts.set(0);
    let mut slot = Slot::new();
    slot.replace(download(&parts));
    while slot.is_busy() {
        select! {
            end = slot.done() => say(end),
            _ = heartbeat.tick() => say(&format!("heartbeat, {} parts read in all", parts.get())),
        }
    }
}
