//! cargo run --example burst_of_ticks
//!
//! A call each second, of which the first hangs for a minute: how many calls follow at once.

use std::time::Duration;

use antipatterns::burst_of_ticks::poll_each;
use timers::missed_ticks::{Ticker, ZeroPeriod};
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

/// Counts the calls; the first one hangs.
async fn call(calls: &mut u32) {
    *calls += 1;
    if *calls == 1 {
        sleep(60 * SECOND).await;
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), ZeroPeriod> {
    let limit = 60 * SECOND + SECOND / 2;

    let mut calls = 0;
    let polling = poll_each(SECOND, async || call(&mut calls).await);
    timeout(limit, polling).await.ok();
    println!("interval:     {} calls as soon as it goes on", calls - 1);

    let mut calls = 0;
    let mut ticker = Ticker::new(Instant::now(), SECOND, MissedTickBehavior::Skip)?;
    let polling = async {
        loop {
            let tick = ticker.tick().await;
            if tick.missed > 0 {
                println!("missed_ticks: {} ticks are missed", tick.missed);
            }
            call(&mut calls).await;
        }
    };
    timeout(limit, polling).await.ok();
    println!("missed_ticks: {} call as soon as it goes on", calls - 1);
    Ok(())
}
