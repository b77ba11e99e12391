//! cargo run --example from_iter_and_interval
//!
//! Pages are fetched one each 100 ms. The second takes 250 ms: the next tick is taken late, one is
//! skipped, and the gap in the numbers shows it. Then an endless iterator is searched, and a
//! heartbeat beside it still gets its turns. The clock is virtual, so it ends at once.

use std::pin::pin;
use std::time::Duration;

use futures_util::{StreamExt, future, stream};
use streams::from_iter_and_interval::{ZeroPeriod, cooperative, paced, ticks};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, sleep};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), ZeroPeriod> {
    let started = Instant::now();
    let pages = [
        ("index", 20),
        ("about", 250),
        ("news", 20),
        ("shop", 20),
        ("help", 20),
    ];
    let period = Duration::from_millis(100);
    let slots = ticks(started, period, MissedTickBehavior::Skip)?;
    let mut fetches = pin!(paced(slots, tokio_stream::iter(pages)).enumerate());
    while let Some((index, (tick, (page, takes)))) = fetches.next().await {
        println!(
            "{:>3} ms  page {index}, tick {}, due {:>3} ms: {page}",
            started.elapsed().as_millis(),
            tick.number,
            (tick.due - started).as_millis()
        );
        sleep(Duration::from_millis(takes)).await;
    }

    let heartbeat = tokio::spawn(async {
        for beat in 1.. {
            yield_now().await;
            if beat % 100 == 0 {
                println!("        heartbeat {beat}");
            }
        }
    });
    // `stream::repeat_with` alone would never let the heartbeat run.
    let mut number = 0_u64;
    let numbers = stream::repeat_with(move || {
        number += 1;
        number
    });
    let multiples = cooperative(numbers).filter(|number| future::ready(number % 30_030 == 0));
    if let Some(first) = pin!(multiples).next().await {
        println!("        the first multiple of 2, 3, 5, 7, 11 and 13 is {first}");
    }
    heartbeat.abort();
    Ok(())
}
