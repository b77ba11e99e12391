//! cargo run --example trickle_never_flushes
//!
//! A thousand rows, one each 900 ms. None should wait for its batch for more than a second.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::trickle_never_flushes::flush_batches;
use futures_util::stream::{StreamExt, poll_fn};
use streams::micro_batch::{Limits, micro_batch};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn rows() -> Receiver<Instant> {
    let (sender, rows) = channel(1);
    tokio::spawn(async move {
        for _ in 0..1_000 {
            sender.send(Instant::now()).await.ok();
            sleep(SECOND * 9 / 10).await;
        }
    });
    rows
}

fn longest(so_far: Duration, batch: &[Instant]) -> Duration {
    let waited = batch.first().map(Instant::elapsed);
    so_far.max(waited.unwrap_or_default())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let (mut waited, mut batches) = (Duration::ZERO, 0);
    let flush = async |batch: Vec<Instant>| {
        waited = longest(waited, &batch);
        batches += 1;
    };
    flush_batches(rows(), 1_000, SECOND, flush).await;
    println!("timeout around recv: {batches} batch, in which a row waited {waited:?}");

    let (mut waited, mut batches, mut rows) = (Duration::ZERO, 0, rows());
    let limits = Limits {
        items: NonZeroUsize::MIN.saturating_add(999),
        weight: NonZeroUsize::MAX,
        wait: SECOND,
    };
    let stream = poll_fn(|cx| rows.poll_recv(cx)).map(Ok::<_, Infallible>);
    let mut flushed = micro_batch(stream, limits, |_| 1);
    while let Some(Ok(batch)) = flushed.next().await {
        waited = longest(waited, &batch);
        batches += 1;
    }
    println!("micro_batch:         {batches} batches, in which no row waited more than {waited:?}");
}
