//! How far a loop with a `sleep` drifts.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::Duration;

use antipatterns::sleep_as_interval::run_each;
use timers::periodic::{Ended, Schedule, periodic};
use tokio::time::{Instant, MissedTickBehavior, advance, sleep, timeout};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn harm_a_job_of_50_ms_loses_171_of_3_600_runs() {
    let mut runs = 0;
    let running = run_each(SECOND, async || {
        runs += 1;
        sleep(50 * MS).await;
    });
    timeout(HOUR, running).await.unwrap_err();
    assert_eq!(runs, 3_600 - 171);
}

#[tokio::test(start_paused = true)]
async fn harm_a_job_of_a_tenth_of_a_millisecond_loses_a_tenth_of_the_runs() {
    let mut runs = 0;
    let running = run_each(10 * MS, async || {
        runs += 1;
        advance(MS / 10).await; // computing takes no virtual time: this is what it took
    });
    timeout(1_099 * MS, running).await.unwrap_err();
    assert_eq!(runs, 100, "of 110");
}

#[tokio::test(start_paused = true)]
async fn harm_a_job_that_takes_no_time_is_in_time_so_its_test_passes() {
    let mut runs = 0;
    timeout(HOUR - MS, run_each(SECOND, async || runs += 1))
        .await
        .unwrap_err();
    assert_eq!(runs, 3_600);
}

#[tokio::test(start_paused = true)]
async fn mended_the_same_job_runs_3_600_times() {
    let schedule = Schedule {
        period: SECOND,
        first_after: Duration::ZERO,
        missed: MissedTickBehavior::Skip,
        grace: SECOND,
    };
    let (runs, stop, started) = (Cell::new(0), CancellationToken::new(), Instant::now());
    let job = async |due: Instant| {
        assert_eq!(due, started + runs.get() * SECOND);
        assert_eq!(due.elapsed(), Duration::ZERO);
        runs.set(runs.get() + 1);
        sleep(50 * MS).await;
        Ok::<_, Infallible>(())
    };
    let end = async {
        sleep(HOUR - MS).await;
        stop.cancel();
    };
    let go_on = |_| ControlFlow::<Infallible>::Continue(());
    let ((), ended) = tokio::join!(end, periodic(schedule, &stop, job, go_on));
    assert_eq!((ended, runs.get()), (Ok(Ended::Stopped), 3_600));
}
