//! cargo run --example unbounded_spawn_blocking
//!
//! 2,000 blocking jobs that cannot end for now. How many threads do they take, and does a file's
//! metadata come meanwhile?

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antipatterns::unbounded_spawn_blocking::map_blocking;
use runtime::cpu_offload::CpuPool;
use tokio::time::{sleep, timeout};

/// A job: counts itself, and ends once the sender is gone.
fn job(begun: &AtomicUsize, gate: &Mutex<Receiver<()>>) {
    begun.fetch_add(1, Ordering::Relaxed);
    gate.lock().map(|gate| gate.recv()).ok();
}

/// Waits until so many have begun, and prints what is so then.
async fn print(name: &str, begun: &AtomicUsize, expected: usize) {
    while begun.load(Ordering::Relaxed) < expected {
        sleep(Duration::from_millis(1)).await;
    }
    let metadata = timeout(Duration::from_secs(1), tokio::fs::metadata(".")).await;
    let metadata = metadata.map_or("has not come after 1 s", |_| "comes");
    let begun = begun.load(Ordering::Relaxed);
    println!("{name} {begun:>3} jobs at once; a file's metadata {metadata}");
}

#[tokio::main]
async fn main() {
    let (opens, gate) = sync_channel(0);
    let (gate, begun) = (Arc::new(Mutex::new(gate)), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&begun);
    let all = tokio::spawn(map_blocking(vec![(); 2_000], move |()| job(&count, &gate)));
    print("spawn_blocking:", &begun, 512).await;
    drop(opens);
    all.await.ok();

    let (opens, gate) = sync_channel(0);
    let (gate, begun) = (Arc::new(Mutex::new(gate)), Arc::new(AtomicUsize::new(0)));
    let pool = CpuPool::new(NonZeroUsize::new(4).unwrap_or(NonZeroUsize::MIN));
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..2_000 {
        let (pool, gate, begun) = (pool.clone(), Arc::clone(&gate), Arc::clone(&begun));
        all.spawn(async move { pool.run(move |_| job(&begun, &gate)).await });
    }
    print("cpu_offload:   ", &begun, 4).await;
    drop(opens);
    all.join_all().await;
}
