//! cargo run --example graceful_shutdown
//!
//! An upload arrives each second until the stop after 4.5 seconds. The first has finished by then;
//! the second finishes early when asked to, the third panics, the fourth has to be aborted. The clock
//! is virtual, so it ends at once.

use std::time::Duration;

use shutdown::graceful_shutdown::{StopLimits, Workers};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

async fn upload(seconds: u32, stop: CancellationToken) {
    if stop
        .run_until_cancelled(sleep(seconds * SECOND))
        .await
        .is_some()
    {
        return;
    }
    assert!(seconds != 30, "disk full");
    let rest = if seconds == 20 { 1 } else { seconds }; // notes how far it got, or takes no hint
    sleep(rest * SECOND).await;
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the report tells of the panic; once is enough
    let started = Instant::now();
    let print = |line: &str| println!("{:>4} ms  {line}", started.elapsed().as_millis());
    let stop = CancellationToken::new(); // cancelled by a signal, in a real program
    let workers = Workers::new(&stop);
    let intake = workers.intake();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            sleep(9 * SECOND / 2).await;
            stop.cancel();
        }
    });

    // The accept loop. It awaits the next unit and nothing else.
    let uploads = [("a", 1), ("b", 20), ("c", 30), ("d", 40), ("e", 50)];
    for (name, seconds) in uploads {
        if stop.run_until_cancelled(sleep(SECOND)).await.is_none() {
            break;
        }
        match intake.spawn(name, seconds, upload) {
            Ok(()) => print(&format!("{name}: accepted")),
            Err(refused) => print(&format!("{name}: {refused}")),
        }
    }

    print("stopping");
    let limits = StopLimits {
        finish: 5 * SECOND,
        abort: SECOND,
    };
    let report = workers.shutdown(limits).await;
    print(&format!("finished: {}", report.finished));
    for (name, message) in report.panicked {
        print(&format!("{name} panicked: {message}"));
    }
    print(&format!("aborted: {:?}", report.aborted));
    print(&format!("still running: {:?}", report.still_running));
    if let Err(refused) = intake.spawn("e", 50, upload) {
        print(&format!("e: {refused}"));
    }
}
