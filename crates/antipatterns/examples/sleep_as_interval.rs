//! cargo run --example sleep_as_interval
//!
//! A job of 50 ms that is to run each second, for an hour.

use std::cell::Cell;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::Duration;

use antipatterns::sleep_as_interval::run_each;
use timers::periodic::{Schedule, ZeroPeriod, periodic};
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Counts the runs, and notes when the last one began.
async fn job(runs: &Cell<(u32, Duration)>, started: Instant) {
    runs.set((runs.get().0 + 1, started.elapsed()));
    sleep(SECOND / 20).await;
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), ZeroPeriod> {
    let (runs, started) = (Cell::default(), Instant::now());
    let running = run_each(SECOND, async || job(&runs, started).await);
    timeout(HOUR - SECOND / 2, running).await.ok();
    let (count, last) = runs.get();
    println!("sleep:    {count} runs, the last after {last:?}");

    let (runs, started) = (Cell::default(), Instant::now());
    let schedule = Schedule {
        period: SECOND,
        first_after: Duration::ZERO,
        missed: MissedTickBehavior::Skip,
        grace: SECOND,
    };
    let stop = CancellationToken::new();
    let job = async |_| {
        job(&runs, started).await;
        Ok::<_, Infallible>(())
    };
    let go_on = |_| ControlFlow::<Infallible>::Continue(());
    let end = async {
        sleep(HOUR - SECOND / 2).await;
        stop.cancel();
    };
    let ((), ended) = tokio::join!(end, periodic(schedule, &stop, job, go_on));
    let (count, last) = runs.get();
    println!("periodic: {count} runs, the last after {last:?}");
    ended.map(drop)
}
