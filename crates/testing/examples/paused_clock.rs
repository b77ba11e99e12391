//! cargo run --example paused_clock
//!
//! Two keep-alives, one of them with the wrong period. A test that waits for three beats passes with
//! both; the history tells them apart, and says how. The clock is virtual: the year is over at once.

use std::time::Duration;

use testing::paused_clock::{Timeline, run_for, takes};
use tokio::time::{interval, sleep};

/// The code under test: a beat at once, then one a period.
async fn beats(times: usize, period: Duration, timeline: Timeline<&'static str>) {
    let mut interval = interval(period);
    for _ in 0..times {
        interval.tick().await;
        timeline.note("beat");
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let right = Duration::from_millis(100);
    let wrong = Duration::from_millis(150);
    for period in [right, wrong] {
        let timeline = Timeline::start();
        beats(3, period, timeline.clone()).await; // the vacuous test ends here, and passes
        println!("{period:?}: three beats came");
        match timeline.check([(0, "beat"), (100, "beat"), (200, "beat")]) {
            Ok(()) => println!("{period:?}: and at the right time"),
            Err(mismatch) => print!("{period:?}: {mismatch}"),
        }
    }

    // For one future, its duration is enough.
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    for period in [right, wrong] {
        match takes(right, sleep(period)).await {
            Ok(()) => println!("{period:?}: as expected"),
            Err(wrong) => println!("{period:?}: {wrong}"),
        }
    }
    println!("a year: {:?}", takes(year, sleep(year)).await);

    // A task in the background: let time pass, and look.
    let timeline = Timeline::start();
    tokio::spawn(beats(1_000, right, timeline.clone()));
    run_for(Duration::from_millis(350)).await?;
    println!("after 350ms: {:?}", timeline.history());
    Ok(())
}
