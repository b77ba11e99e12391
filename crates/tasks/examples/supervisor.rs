//! cargo run --example supervisor
//!
//! Four tasks. One recovers from a panic, one fails until its restarts are used up; the other two
//! run until the stop after ten seconds: one ends when asked to, one has to be aborted.

use std::future::pending;
use std::time::Duration;

use tasks::supervisor::{Ended, Outcome, Restarts, StopLimits, Supervisor};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

fn print(started: Instant, ended: &Ended<&'static str>) {
    let outcome = match &ended.outcome {
        Outcome::Finished => "finished".to_owned(),
        Outcome::GaveUp(failure) => format!("given up: {failure}"),
        Outcome::Aborted => "aborted".to_owned(),
        Outcome::StillRunning => "still running".to_owned(),
    };
    println!(
        "{:>2} s  {}: {outcome}",
        started.elapsed().as_secs(),
        ended.name
    );
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // a real program logs: each failure is a tracing event
    let started = Instant::now();
    let restarts = Restarts {
        limit: 2,
        healthy_after: 60 * SECOND,
        first_delay: SECOND,
        max_delay: 30 * SECOND,
    };
    let mut supervisor = Supervisor::new(&CancellationToken::new());

    let mut attempt = 0;
    supervisor.spawn("importer", restarts, move |_| {
        attempt += 1;
        println!(
            "{:>2} s  importer: attempt {attempt}",
            started.elapsed().as_secs()
        );
        async move {
            sleep(SECOND).await;
            assert!(attempt > 1, "malformed row");
            Ok(())
        }
    });
    supervisor.spawn("poller", restarts, move |_| {
        println!("{:>2} s  poller: connecting", started.elapsed().as_secs());
        async { Err("no route") }
    });
    supervisor.spawn("listener", restarts, async |token: CancellationToken| {
        token.cancelled().await;
        sleep(SECOND).await; // closes its connections
        Ok(())
    });
    supervisor.spawn("stubborn", restarts, async |_| pending().await);

    let shutdown = started + 10 * SECOND; // a signal, in a real program
    while let Ok(Some(ended)) = timeout_at(shutdown, supervisor.next()).await {
        print(started, &ended);
    }
    println!("{:>2} s  stopping", started.elapsed().as_secs());
    let limits = StopLimits {
        finish: 5 * SECOND,
        abort: SECOND,
    };
    for ended in supervisor.stop(limits).await {
        print(started, &ended);
    }
}
