//! cargo run --example shutdown_first
//!
//! Six alarms and six reports wait already. At most two alarms go before a report. The stop comes
//! while the second report is written: nothing more is taken, and the rest is still there.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::stream::poll_fn;
use select::shutdown_first::{Next, ShutdownFirst};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let say = |what: &str| println!("{:>2} ms  {what}", started.elapsed().as_millis());
    let (alarm, mut alarms) = mpsc::channel(10);
    let (report, mut reports) = mpsc::channel(10);
    for number in 1..=6 {
        alarm.send(format!("alarm {number}")).await.ok();
        report.send(format!("report {number}")).await.ok();
    }
    let stop = CancellationToken::new();
    let button = stop.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(15)).await;
        button.cancel();
    });

    let two = NonZeroUsize::MIN.saturating_add(1);
    let alarm_stream = poll_fn(|cx| alarms.poll_recv(cx));
    let report_stream = poll_fn(|cx| reports.poll_recv(cx));
    let mut work = ShutdownFirst::new(stop, alarm_stream, report_stream, two);
    loop {
        match work.next().await {
            Next::Urgent(alarm) => say(&alarm),
            Next::Normal(report) => {
                say(&report);
                sleep(Duration::from_millis(10)).await; // it takes a while to write
            }
            Next::Stopped => break say("stop"),
            Next::Ended => break say("nothing can come any more"),
        }
    }
    drop(work); // the receivers were lent to it
    say(&format!(
        "not taken: {} alarms, {} reports",
        alarms.len(),
        reports.len()
    ));
}
