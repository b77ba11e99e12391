//! What `biased` does to the branches below one that is always ready.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::biased_starvation::serve;
use futures_util::stream::poll_fn;
use select::shutdown_first::{Next, ShutdownFirst};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

const MS: Duration = Duration::from_millis(1);
const BEAT: Duration = Duration::from_millis(100);

/// A queue with 5,000 jobs in it, which no sender adds to.
fn full() -> Receiver<()> {
    let (sender, jobs) = channel(5_000);
    (0..5_000).for_each(|_| sender.try_send(()).unwrap());
    jobs
}

/// A job takes an even number of milliseconds, and stops come at odd ones.
async fn job((): ()) {
    sleep(2 * MS).await;
}

fn stop_after(time: Duration) -> CancellationToken {
    let stop = CancellationToken::new();
    let button = stop.clone();
    tokio::spawn(async move {
        sleep(time).await;
        button.cancel();
    });
    stop
}

#[tokio::test(start_paused = true)]
async fn harm_no_heartbeat_comes_while_there_are_jobs() {
    let (mut jobs, stop, mut beats) = (full(), CancellationToken::new(), 0);
    let served = serve(&mut jobs, &stop, BEAT, job, || beats += 1);
    timeout(9_999 * MS, served).await.unwrap_err();
    assert_eq!(beats, 0, "of 100");
}

#[tokio::test(start_paused = true)]
async fn harm_a_stop_is_heard_when_the_queue_is_empty() {
    let (mut jobs, stop) = (full(), stop_after(4_999 * MS));
    let (mut before, mut after) = (0, 0);
    let work = async |()| {
        if stop.is_cancelled() {
            after += 1;
        } else {
            before += 1;
        }
        job(()).await;
    };
    serve(&mut jobs, &stop, BEAT, work, || ()).await;
    assert_eq!((before, after), (2_500, 2_500));
}

#[tokio::test(start_paused = true)]
async fn harm_with_a_producer_that_keeps_up_it_never_stops() {
    let (sender, mut jobs) = channel(10);
    sender.try_send(()).unwrap();
    tokio::spawn(async move { while sender.send(()).await.is_ok() {} });
    let (stop, mut beats) = (stop_after(MS), 0);
    let served = serve(&mut jobs, &stop, BEAT, job, || beats += 1);
    timeout(59_999 * MS, served).await.unwrap_err();
    assert_eq!(beats, 0, "in a minute");
}

#[tokio::test(start_paused = true)]
async fn mended_beats_come_and_the_stop_is_heard() {
    let mut jobs = full();
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let ten = NonZeroUsize::new(10).unwrap();
    let urgent = poll_fn(|cx| jobs.poll_recv(cx));
    let normal = poll_fn(|cx| beats.poll_tick(cx).map(Some));
    let stop = stop_after(4_999 * MS);
    let mut next = ShutdownFirst::new(stop, urgent, normal, ten);
    let (mut done, mut heartbeats) = (0, 0);
    loop {
        match next.next().await {
            Next::Urgent(()) => {
                job(()).await;
                done += 1;
            }
            Next::Normal(_) => heartbeats += 1,
            Next::Stopped | Next::Ended => break,
        }
    }
    assert_eq!((done, heartbeats), (2_500, 50));
}
