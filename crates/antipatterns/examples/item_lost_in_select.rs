//! cargo run --example item_lost_in_select
//!
//! A thousand items, a reader that takes one each 10 ms, and a report each 100 ms: how many arrive,
//! when the report interrupts a move of two awaits, and when it interrupts one that loses nothing.

use std::time::Duration;

use antipatterns::item_lost_in_select::move_and_report;
use channels::forward::forward;
use tokio::select;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, Interval, interval_at, sleep};

const MS: Duration = Duration::from_millis(1);

/// Runs `mover` between a source with 1,000 items and a slow reader; tells how many arrive.
async fn arrivals(mover: impl AsyncFnOnce(&mut Receiver<u32>, &Sender<u32>, &mut Interval)) -> u32 {
    let (source, mut from) = channel(1_000);
    for item in 0..1_000 {
        source.try_send(item).ok();
    }
    drop(source);
    let (to, mut target) = channel(4);
    let moving = async {
        let mut ticks = interval_at(Instant::now() + 5 * MS, 100 * MS);
        mover(&mut from, &to, &mut ticks).await;
        drop(to);
    };
    let reading = async {
        let mut arrived = 0;
        while target.recv().await.is_some() {
            arrived += 1;
            sleep(10 * MS).await;
        }
        arrived
    };
    tokio::join!(moving, reading).1
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let arrived = arrivals(async |from, to, ticks| move_and_report(from, to, ticks, || ()).await);
    println!("recv, then send: {:>4} of 1000 arrived", arrived.await);

    let arrived = arrivals(async |from, to, ticks| {
        loop {
            select! {
                _ = forward(from, to, |item| item) => return,
                _ = ticks.tick() => {}
            }
        }
    });
    println!("forward:         {:>4} of 1000 arrived", arrived.await);
}
