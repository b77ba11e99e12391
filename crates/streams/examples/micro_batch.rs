//! cargo run --example micro_batch
//!
//! Events arrive for a store that takes up to four in one request, of up to 100 bytes, and none may
//! wait longer than 50 ms. Batches end by number, by weight, by time, and at the end of the input. A
//! line that cannot be read comes after the batch before it, and ends nothing.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::StreamExt;
use streams::micro_batch::{Limits, micro_batch};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

type Event = Result<(&'static str, usize), &'static str>;

/// When each event arrives, in milliseconds, and its name and weight.
const EVENTS: [(u64, Event); 13] = [
    (0, Ok(("a", 10))),
    (1, Ok(("b", 10))),
    (2, Ok(("c", 10))),
    (3, Ok(("d", 10))),
    (10, Ok(("e", 60))),
    (20, Ok(("f", 60))),
    (40, Ok(("g", 10))),
    (100, Ok(("h", 10))),
    (110, Err("not UTF-8")),
    (120, Ok(("i", 300))),
    (200, Ok(("j", 10))),
    (210, Ok(("k", 10))),
    (220, Ok(("l", 10))),
];

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let (sender, events) = mpsc::channel(16);
    tokio::spawn(async move {
        for (at, event) in EVENTS {
            sleep_until(started + Duration::from_millis(at)).await;
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });

    let limits = Limits {
        items: NonZeroUsize::MIN.saturating_add(3),
        weight: NonZeroUsize::MIN.saturating_add(99),
        wait: Duration::from_millis(50),
    };
    let events = ReceiverStream::new(events);
    let mut batches = micro_batch(events, limits, |(_, bytes)| *bytes);
    while let Some(batch) = batches.next().await {
        let at = started.elapsed().as_millis();
        match batch {
            Ok(batch) => {
                let names: Vec<_> = batch.iter().map(|(name, _)| *name).collect();
                let bytes: usize = batch.iter().map(|(_, bytes)| bytes).sum();
                println!("{at:>3} ms  {bytes:>3} bytes: {}", names.join(" "));
            }
            Err(error) => println!("{at:>3} ms  {error}"),
        }
    }
}
