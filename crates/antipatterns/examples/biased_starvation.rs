//! cargo run --example biased_starvation
//!
//! A thousand jobs of 2 ms each wait already; a heartbeat is due each 100 ms, and a stop comes
//! after half a second.

use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::biased_starvation::serve;
use futures_util::stream::poll_fn;
use select::shutdown_first::{Next, ShutdownFirst};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

const MS: Duration = Duration::from_millis(1);

/// A thousand jobs, and a stop after half a second.
fn start() -> (Receiver<u32>, CancellationToken) {
    let (sender, jobs) = channel(1_000);
    (0..1_000).for_each(|job| sender.try_send(job).unwrap_or_default());
    let stop = CancellationToken::new();
    let button = stop.clone();
    tokio::spawn(async move {
        sleep(499 * MS).await;
        button.cancel();
    });
    (jobs, stop)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let (started, (mut jobs, stop), mut beats) = (Instant::now(), start(), Vec::new());
    let beat = || beats.push(started.elapsed());
    serve(
        &mut jobs,
        &stop,
        100 * MS,
        async |_| sleep(2 * MS).await,
        beat,
    )
    .await;
    let (ended, first) = (
        started.elapsed(),
        beats.first().copied().unwrap_or_default(),
    );
    println!("biased:         ended after {ended:?}, first heartbeat: {first:?}");

    let (started, (mut jobs, stop), mut beats) = (Instant::now(), start(), Vec::new());
    let mut ticks = interval(100 * MS);
    let urgent = poll_fn(|cx| jobs.poll_recv(cx));
    let normal = poll_fn(|cx| ticks.poll_tick(cx).map(Some));
    let ten = NonZeroUsize::MIN.saturating_add(9);
    let mut both = ShutdownFirst::new(stop, urgent, normal, ten);
    loop {
        match both.next().await {
            Next::Urgent(_) => sleep(2 * MS).await,
            Next::Normal(_) => beats.push(started.elapsed()),
            Next::Stopped | Next::Ended => break,
        }
    }
    let (ended, first) = (
        started.elapsed(),
        beats.first().copied().unwrap_or_default(),
    );
    println!("shutdown_first: ended after {ended:?}, first heartbeat: {first:?}");
}
