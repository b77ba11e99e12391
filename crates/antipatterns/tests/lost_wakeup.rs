//! A change that comes between the look and the wait.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use antipatterns::lost_wakeup::{run_until_stopped, wait_until};
use sync::notify::Monitor;
use tokio::select;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Whether a wait ends for what is done 5 ms after its beginning; a look takes so long.
async fn ends(look: Duration) -> bool {
    let (is_done, changed) = (AtomicBool::new(false), Notify::new());
    let wait = wait_until(&changed, async || {
        let seen = is_done.load(Ordering::Relaxed);
        sleep(look).await; // the answer is on its way
        seen
    });
    let change = async {
        sleep(5 * MS).await;
        is_done.store(true, Ordering::Relaxed);
        changed.notify_waiters();
    };
    let (ended, ()) = tokio::join!(timeout(HOUR, wait), change);
    ended.is_ok()
}

#[tokio::test(start_paused = true)]
async fn harm_a_change_during_the_look_is_missed() {
    assert!(ends(MS).await, "it waits by then");
    assert!(!ends(10 * MS).await, "the answer was on its way");
}

#[tokio::test(start_paused = true)]
async fn harm_a_change_between_the_look_and_the_wait_is_missed() {
    let (is_done, changed) = (AtomicBool::new(false), Notify::new());
    let wait = wait_until(&changed, async || {
        let seen = is_done.swap(true, Ordering::Relaxed); // now another thread has its turn
        changed.notify_waiters();
        seen
    });
    timeout(HOUR, wait).await.unwrap_err();
}

/// Loops, each with a job of ten seconds in each ten seconds, that are stopped during their second
/// job; how many of them stop within an hour, and how many jobs the first begins.
async fn stopped(loops: usize, stop: impl Fn(&Notify)) -> (usize, usize) {
    let signal = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    for _ in 0..loops {
        let signal = Arc::clone(&signal);
        tasks.spawn(async move {
            let (sender, mut jobs) = mpsc::channel(1_000);
            for job in 0..1_000 {
                sender.try_send(job).unwrap();
            }
            let begun = AtomicUsize::new(0);
            let run = run_until_stopped(&signal, &mut jobs, |_| {
                begun.fetch_add(1, Ordering::Relaxed);
                sleep(10 * SECOND)
            });
            let stopped = timeout(HOUR + 15 * SECOND, run).await.is_ok();
            (stopped, begun.into_inner())
        });
    }
    sleep(15 * SECOND).await;
    stop(&signal);
    let ends = tasks.join_all().await;
    let stopped = ends.iter().filter(|(stopped, _)| *stopped).count();
    (stopped, ends[0].1)
}

#[tokio::test(start_paused = true)]
async fn harm_a_stop_during_a_job_is_not_heard() {
    let (stopped, begun) = stopped(1, Notify::notify_waiters).await;
    assert_eq!((stopped, begun), (0, 362), "two before the stop");
}

#[tokio::test(start_paused = true)]
async fn harm_notify_one_stops_one_of_three() {
    assert_eq!(stopped(3, Notify::notify_one).await.0, 1);
}

#[tokio::test(start_paused = true)]
async fn mended_no_change_is_missed_and_no_stop() {
    let started = Instant::now();
    let state = Monitor::new(false);
    let wait = state.wait_until(|is_done| is_done.then(|| started.elapsed()));
    let change = async {
        sleep(5 * MS).await;
        state.update(|is_done| *is_done = true);
    };
    let (ended, ()) = tokio::join!(timeout(HOUR, wait), change);
    assert_eq!(ended, Ok(5 * MS));

    let stop = CancellationToken::new();
    let (sender, mut jobs) = mpsc::channel(1_000);
    for job in 0..1_000 {
        sender.try_send(job).unwrap();
    }
    let run = async {
        let mut done = 0;
        loop {
            select! {
                biased; // the stop before the next job
                () = stop.cancelled() => return done,
                Some(_) = jobs.recv() => {
                    sleep(10 * SECOND).await;
                    done += 1;
                }
            }
        }
    };
    let later = async {
        sleep(15 * SECOND).await;
        stop.cancel();
    };
    let (done, ()) = tokio::join!(timeout(HOUR, run), later);
    assert_eq!(done, Ok(2), "the job at work was the last");
}
