//! cargo run --example try_send_dropped
//!
//! A burst of a thousand events, a queue of a hundred, and a store that takes 33 ms for each. The
//! clock is virtual.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antipatterns::try_send_dropped::EventLog;
use structured::load_shedding::{WhenFull, shedding_queue};
use tokio::time::sleep;

const HUNDRED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(99);
const TAKES: Duration = Duration::from_millis(33);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let store = {
        let stored = Arc::clone(&stored);
        move |event| {
            if let Ok(mut stored) = stored.lock() {
                stored.push(event);
            }
            sleep(TAKES)
        }
    };
    let print = |name: &str| {
        let stored = stored.lock().map(|mut stored| std::mem::take(&mut *stored));
        let stored = stored.unwrap_or_default();
        let (first, last) = (stored.first(), stored.last());
        println!("{name} stored {}, from {first:?} to {last:?}", stored.len());
    };

    let log = EventLog::start(store.clone());
    for event in 1..=1000 {
        log.record(event);
    }
    sleep(Duration::from_secs(60)).await;
    print("try_send:     ");

    let (log, mut events) = shedding_queue(HUNDRED, WhenFull::DropOldest, |_, _| {});
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            store(event).await;
        }
    });
    for event in 1..=1000 {
        log.try_push(event).ok(); // closed, and nothing else
    }
    sleep(Duration::from_secs(60)).await;
    print("load_shedding:");
    println!("               {:?}", log.counts());
}
