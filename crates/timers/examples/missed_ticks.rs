//! cargo run --example missed_ticks
//!
//! Three tickers with the same period of 100 ms go through the same stall of 350 ms, right after
//! their first tick. The clock is virtual.

use std::time::Duration;

use timers::missed_ticks::Ticker;
use tokio::time::MissedTickBehavior::{Burst, Delay, Skip};
use tokio::time::{Instant, sleep};

const PERIOD: Duration = Duration::from_millis(100);
const STALL: Duration = Duration::from_millis(350);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for behavior in [Burst, Delay, Skip] {
        let started = Instant::now();
        println!("{behavior:?}");
        let mut ticker = Ticker::new(started, PERIOD, behavior)?;
        for number in 0..6 {
            let tick = ticker.tick().await;
            println!(
                "  at {:>3} ms  due {:>3} ms  late by {:>3} ms  missed {}",
                started.elapsed().as_millis(),
                (tick.due - started).as_millis(),
                tick.late_by.as_millis(),
                tick.missed
            );
            if number == 0 {
                sleep(STALL).await;
            }
        }
    }
    Ok(())
}
