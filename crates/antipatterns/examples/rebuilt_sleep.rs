//! cargo run --example rebuilt_sleep
//!
//! A session with a peer that is silent. It pings each 20 s, and is to end after 59 s.

use std::time::Duration;

use antipatterns::rebuilt_sleep::session;
use timers::schedule_at::IdleTimeout;
use tokio::select;
use tokio::sync::mpsc::channel;
use tokio::time::{Instant, interval, timeout};

const IDLE: Duration = Duration::from_secs(59);
const DAY: Duration = Duration::from_secs(24 * 3_600 - 1);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let (_silent, mut messages) = channel::<()>(1);
    let (mut pings, mut sent) = (interval(Duration::from_secs(20)), 0);
    let rebuilt = session(&mut messages, IDLE, &mut pings, drop, || sent += 1);
    match timeout(DAY, rebuilt).await {
        Ok(()) => println!("sleep in a branch: ended after {sent} pings"),
        Err(_) => println!("sleep in a branch: still open after a day and {sent} pings"),
    }

    let (mut pings, mut sent) = (interval(Duration::from_secs(20)), 0);
    let (idle, started) = (IdleTimeout::new(IDLE), Instant::now());
    loop {
        select! {
            Some(()) = messages.recv() => idle.touch(),
            _ = pings.tick() => sent += 1,
            () = idle.expired() => break,
        }
    }
    let took = started.elapsed();
    println!("schedule_at:       ended after {took:?} and {sent} pings");
}
