//! # Starved by biased: the first branch is always ready
//!
//! Somebody found that `select!` picks at random and wrote `biased;` above it, with the work first
//! because it matters most. For months nothing is seen of it. Then the queue is not empty for a
//! while, and the branches below it do not exist for that time.
//!
//! ## You have it when
//! - under load, and only then, heartbeats stop, leases run out and the orchestrator restarts it;
//! - a stop is heard only once the queue is empty, or the process is killed in the middle;
//! - below `biased;` stands first what may always be ready: a queue, a socket, a stream.
//!
//! ## What it does to you
//! - With 5,000 jobs of 2 ms in the queue and a heartbeat each 100 ms: none in 10 s, instead of
//!   100.
//! - A stop in the middle of it: the 2,500 jobs that are left are taken up all the same.
//! - With a producer that keeps up there is no end to it: in a minute neither has come.
//!
//! ## Use instead
//! - `shutdown_first`: the stop comes first, and what is urgent has a limit, after which the rest
//!   has a turn;
//! - `event_loop` when a tick must come while a job is under way.

use std::time::Duration;

use tokio::select;
use tokio::sync::mpsc::Receiver;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

/// Handles jobs, tells that it is alive at every period, and ends when it is stopped.
pub async fn serve<J>(
    jobs: &mut Receiver<J>,
    stop: &CancellationToken,
    period: Duration,
    mut handle: impl AsyncFnMut(J),
    mut heartbeat: impl FnMut(),
) {
    let mut beats = interval(period);
    loop {
        select! {
            biased; // jobs go first
            Some(job) = jobs.recv() => handle(job).await, // ready: nothing below is polled
            _ = beats.tick() => heartbeat(),
            () = stop.cancelled() => return,
        }
    }
}
