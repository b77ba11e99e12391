//! cargo run --example no_jitter
//!
//! A thousand clients lose their server in the same instant. It is back at once, takes 50 calls in
//! 10 ms, and turns the others away. Each client calls eight times at most. The clock is virtual.

use std::collections::BTreeMap;
use std::future::ready;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antipatterns::no_jitter::with_backoff;
use retry::backoff::{Policy, retry};
use tokio::task::JoinSet;
use tokio::time::Instant;

const POLICY: Policy = Policy {
    base: Duration::from_millis(100),
    cap: Duration::MAX,
    tries: NonZeroU32::new(8).unwrap(),
    total: Duration::MAX,
};

struct Server(Instant, Mutex<BTreeMap<u128, u32>>);

impl Server {
    fn call(&self) -> Result<(), &'static str> {
        let slot = self.0.elapsed().as_millis() / 10;
        let mut calls = self.1.lock().map_err(|_| "poisoned")?;
        let calls = calls.entry(slot).or_default();
        *calls += 1;
        let is_up = slot > 0 && *calls <= 50;
        is_up.then_some(()).ok_or("no answer")
    }
}

async fn call(server: Arc<Server>, jitter: bool, seed: u64) -> Result<(), &'static str> {
    if !jitter {
        return with_backoff(|| ready(server.call())).await;
    }
    let random = fastrand::Rng::with_seed(seed); // in production: Rng::new()
    let every_time = |_: &_| Some(Duration::ZERO);
    let called = retry(&POLICY, random, every_time, |_| ready(server.call()));
    called.await.map_err(|_| "given up")
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    for (name, jitter) in [("no jitter", false), ("full jitter", true)] {
        let server = Arc::new(Server(Instant::now(), Mutex::default()));
        let clients = (0..1000).map(|seed| call(Arc::clone(&server), jitter, seed));
        let results = clients.collect::<JoinSet<_>>().join_all().await;
        let served = results.iter().filter(|result| result.is_ok()).count();
        println!("{name}: {served} served, {} gave up", 1000 - served);
        let calls = server
            .1
            .lock()
            .map(|calls| calls.clone())
            .unwrap_or_default();
        for (slot, calls) in calls.iter().skip(1).take(4) {
            println!("  at {:3} ms: {calls:4} calls within 10 ms", slot * 10);
        }
    }
}
