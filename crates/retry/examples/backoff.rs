//! cargo run --example backoff
//!
//! A thousand clients lose their server in the same instant, and it is back 1.5 s later. How many of
//! them call in the same 10 ms? The clock is virtual, so it ends at once.

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use retry::backoff::{Policy, retry};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const POLICY: Policy = Policy {
    base: Duration::from_millis(100),
    cap: Duration::from_secs(2),
    tries: NonZeroU32::MAX,
    total: Duration::from_secs(30),
};

/// Counts the calls in each 10 ms, and fails before the server is back.
#[derive(Clone)]
struct Server {
    started: Instant,
    calls: Arc<Mutex<BTreeMap<u128, u32>>>,
}

impl Server {
    fn call(&self) -> Result<(), &'static str> {
        let now = self.started.elapsed();
        if let Ok(mut calls) = self.calls.lock() {
            *calls.entry(now.as_millis() / 10).or_default() += 1;
        }
        (now > Duration::from_millis(1500))
            .then_some(())
            .ok_or("down")
    }
}

async fn in_step(server: Server) {
    let mut wait = POLICY.base;
    while server.call().is_err() {
        sleep(wait).await;
        wait = (wait * 2).min(POLICY.cap);
    }
}

async fn with_jitter(server: Server, seed: u64) {
    let random = fastrand::Rng::with_seed(seed); // in production: Rng::new()
    let every_time = |_: &&str| Some(Duration::ZERO);
    let server = &server; // borrowed, so that the closure lends nothing of its own
    let calls = retry(&POLICY, random, every_time, async |_| server.call());
    calls.await.ok();
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    for jitter in [false, true] {
        let (started, calls) = (Instant::now(), Arc::default());
        let server = Server { started, calls };
        let mut clients = JoinSet::new();
        for seed in 0..1000 {
            match server.clone() {
                server if jitter => clients.spawn(with_jitter(server, seed)),
                server => clients.spawn(in_step(server)),
            };
        }
        clients.join_all().await;
        let calls = server.calls.lock().map_err(|_| "a client panicked")?;
        let after = calls.iter().filter(|(at, _)| **at > 0); // all fail at 0 ms: that is the outage
        let (at, most) = after.max_by_key(|(_, calls)| **calls).ok_or("no call")?;
        println!(
            "{:12} most in 10 ms: {most:4}, at {:4} ms; calls in all: {:4}; all served after {} ms",
            if jitter { "full jitter" } else { "in step" },
            at * 10,
            calls.values().sum::<u32>(),
            started.elapsed().as_millis(),
        );
    }
    Ok(())
}
