//! cargo run --example debounce
//!
//! A watcher reports changed files. A rebuild begins once nothing has changed for 100 ms, after
//! 500 ms at the latest, and knows every file that changed. The clock is virtual.

use std::collections::BTreeSet;
use std::time::Duration;

use timers::debounce::{Debounce, Wait};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let (sender, events) = mpsc::channel(64);
    let watcher = tokio::spawn(async move {
        let saved = [(0, "a.rs"), (20, "b.rs"), (30, "a.rs")]; // a burst, then quiet
        let generated = [(300, "x.rs"); 1].into_iter().chain([(80, "y.rs"); 8]); // no pause
        for (gap, file) in saved.into_iter().chain(generated) {
            sleep(Duration::from_millis(gap)).await;
            if sender.send(BTreeSet::from([file])).await.is_err() {
                return; // nobody builds any more
            }
        }
    });

    let wait = Wait {
        quiet: Duration::from_millis(100),
        longest: Duration::from_millis(500),
    };
    let mut changes = Debounce::merging(events, wait, |all, mut file| all.append(&mut file));
    while let Some(burst) = changes.next().await {
        println!(
            "{:>4} ms  rebuild for {:?}, {} events since {} ms",
            started.elapsed().as_millis(),
            burst.value,
            burst.events,
            (burst.first - started).as_millis(),
        );
    }
    println!("the watcher ended: {}", watcher.await.is_ok());
}
