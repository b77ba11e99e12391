//! cargo run --example work_queue
//!
//! Two producers share a queue of two places and two workers: once it is full they wait for the
//! workers. One job panics; the others do not notice. The clock is virtual, so it ends at once.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use channels::work_queue::{Limits, Outcome, work_queue};
use tokio::time::{Instant, sleep};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the outcome tells of the panic; once is enough
    let started = Instant::now();
    let two = NonZeroUsize::MIN.saturating_add(1);
    let limits = Limits {
        workers: two,
        capacity: two,
    };
    let total = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&total);
    let (queue, mut outcomes) = work_queue(limits, move |(page, size): (&str, u64)| {
        let total = Arc::clone(&shared); // each job's future owns what it uses
        async move {
            sleep(Duration::from_millis(size)).await;
            assert!(size != 130, "{page} is malformed");
            total.fetch_add(size * 10, Ordering::Relaxed);
            size * 10
        }
    });

    for (producer, pages) in [
        ("A", [("index", 100), ("about", 130), ("news", 50)]),
        ("B", [("shop", 110), ("cart", 40), ("help", 60)]),
    ] {
        let queue = queue.clone();
        tokio::spawn(async move {
            for page in pages {
                match queue.push(page).await {
                    Ok(job) => println!(
                        "{:>3} ms  {producer} pushed job {job}: {}",
                        started.elapsed().as_millis(),
                        page.0
                    ),
                    Err(closed) => println!("{producer} could not push: {closed}"),
                }
            }
        });
    }
    drop(queue); // the producers' clones are the last ones: when they are gone, the queue ends

    while let Some(Outcome { job, result }) = outcomes.next().await {
        let result = result.map_or_else(
            |panicked| panicked.to_string(),
            |words| format!("{words} words"),
        );
        println!(
            "{:>3} ms  job {job}: {result}",
            started.elapsed().as_millis()
        );
    }
    let total = total.load(Ordering::Relaxed);
    println!(
        "{:>3} ms  all done: {total} words",
        started.elapsed().as_millis()
    );
}
