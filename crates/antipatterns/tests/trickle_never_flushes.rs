//! How long a row waits for its batch.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::trickle_never_flushes::flush_batches;
use futures_util::stream::{StreamExt, poll_fn};
use streams::micro_batch::{Limits, micro_batch};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// So many rows, one each `gap`, and then an hour of nothing.
fn rows(count: usize, gap: Duration) -> Receiver<Instant> {
    let (sender, rows) = channel(1);
    tokio::spawn(async move {
        for _ in 0..count {
            sender.send(Instant::now()).await.unwrap();
            sleep(gap).await;
        }
        sleep(3_600 * SECOND).await;
    });
    rows
}

/// Of each batch how many rows there are, and how long the first has waited.
async fn batches(rows: Receiver<Instant>) -> Vec<(usize, Duration)> {
    let mut batches = Vec::new();
    let flush = async |batch: Vec<Instant>| batches.push((batch.len(), batch[0].elapsed()));
    flush_batches(rows, 1_000, SECOND, flush).await;
    batches
}

#[tokio::test(start_paused = true)]
async fn harm_a_row_that_is_to_wait_a_second_waits_a_quarter_of_an_hour() {
    let batches = batches(rows(2_000, 900 * MS)).await;
    assert_eq!(batches, [(1_000, 899_100 * MS); 2]);
}

#[tokio::test(start_paused = true)]
async fn harm_a_burst_is_flushed_in_time_so_its_test_passes() {
    let batches = batches(rows(300, MS)).await;
    assert_eq!(batches, [(300, 1_299 * MS)]);
}

#[tokio::test(start_paused = true)]
async fn mended_no_row_waits_for_more_than_a_second() {
    let mut rows = rows(2_000, 900 * MS);
    let stream = poll_fn(|cx| rows.poll_recv(cx)).map(Ok::<_, Infallible>);
    let limits = Limits {
        items: NonZeroUsize::new(1_000).unwrap(),
        weight: NonZeroUsize::MAX,
        wait: SECOND,
    };
    let mut batches = micro_batch(stream, limits, |_| 1);
    let mut count = 0;
    while let Some(Ok(batch)) = batches.next().await {
        assert_eq!((batch.len(), batch[0].elapsed()), (2, SECOND));
        count += 1;
    }
    assert_eq!(count, 1_000);
}
