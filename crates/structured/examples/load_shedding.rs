//! cargo run --example load_shedding
//!
//! A sensor gives a reading each 10 ms, and storing one takes 33 ms; two may wait. The same eight
//! readings, four answers to a full queue: what is stored, when, and what becomes of the others. The
//! clock is virtual, so it ends at once.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use structured::load_shedding::{WhenFull, shedding_queue};
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let two = NonZeroUsize::MIN.saturating_add(1);
    let wait = WhenFull::Wait(20 * MS);
    for when_full in [
        wait,
        WhenFull::Reject,
        WhenFull::DropOldest,
        WhenFull::DropNewest,
    ] {
        println!("{when_full:?}");
        let started = Instant::now();
        let dropped = Arc::new(Mutex::new(Vec::new()));
        let shed = Arc::clone(&dropped);
        let (producer, mut readings) = shedding_queue(two, when_full, move |reading, why| {
            let mut dropped = shed.lock().unwrap_or_else(PoisonError::into_inner);
            dropped.push(format!("{reading} ({why:?})"));
        });
        tokio::spawn(async move {
            for reading in 1..=8 {
                if let Err(error) = producer.push(reading).await {
                    println!("  {reading} is given back: {error}");
                }
                sleep(10 * MS).await;
            }
        });
        while let Some(reading) = readings.next().await {
            sleep(33 * MS).await;
            let at = started.elapsed().as_millis();
            println!("  {reading} is stored after {at} ms");
        }
        let counts = readings.counts();
        let dropped = dropped.lock().map(|dropped| dropped.join(", "));
        println!("  dropped: {}", dropped.unwrap_or_default());
        println!(
            "  {} queued, {} rejected, {} timed out, {} oldest and {} newest dropped\n",
            counts.queued,
            counts.rejected,
            counts.timed_out,
            counts.dropped_oldest,
            counts.dropped_newest
        );
    }
}
