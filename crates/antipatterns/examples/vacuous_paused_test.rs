//! cargo run --example vacuous_paused_test
//!
//! A job that is to run each 100 ms, and by mistake once a year, under two tests.

use std::time::Duration;

use antipatterns::vacuous_paused_test::check_that_it_runs;
use testing::paused_clock::Timeline;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::interval;

/// The code under test.
fn job_each(period: Duration) -> Receiver<()> {
    let (run, runs) = channel(1);
    tokio::spawn(async move {
        let mut ticks = interval(period);
        loop {
            ticks.tick().await;
            if run.send(()).await.is_err() {
                return;
            }
        }
    });
    runs
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let year = Duration::from_secs(365 * 24 * 3_600);
    check_that_it_runs(&mut job_each(year)).await; // would panic
    println!("waits for three runs: passed");

    let mut runs = job_each(year);
    let timeline = Timeline::start();
    for _ in 0..3 {
        runs.recv().await;
        timeline.note("run");
    }
    match timeline.check([(0, "run"), (100, "run"), (200, "run")]) {
        Ok(()) => println!("paused_clock: passed"),
        Err(mismatch) => print!("paused_clock: {mismatch}"),
    }
}
