//! cargo run --example periodic
//!
//! A cache is refreshed every second. The second run panics, the third fails. The fourth takes too
//! long: the fifth is late, and the instant after it is skipped. The stop comes during the last run,
//! which may finish. The clock is virtual, so it ends at once.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Duration;

use timers::periodic::{Ended, Failure, Schedule, periodic};
use tokio::time::MissedTickBehavior::Skip;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the result tells of the panic; once is enough
    let started = Instant::now();
    let schedule = Schedule {
        period: Duration::from_secs(1),
        first_after: Duration::ZERO,
        missed: Skip,
        grace: Duration::from_millis(500),
    };
    let stop = CancellationToken::new();
    let mut failures = 0;

    let runs = Cell::new(0);
    let refresh = async |due: Instant| {
        let run = runs.get() + 1;
        runs.set(run);
        let (due, now) = (due - started, started.elapsed());
        println!("{:>4} ms  run {run}, due at {due:?}", now.as_millis());
        sleep(Duration::from_millis(if run == 4 { 2_700 } else { 200 })).await;
        assert!(run != 2, "malformed answer");
        if run == 3 { Err("no route") } else { Ok(run) }
    };
    let report = |result: Result<u32, Failure<&'static str>>| {
        let text = match &result {
            Ok(run) => format!("run {run} is done"),
            Err(failure) => failure.to_string(),
        };
        println!("{:>4} ms  {text}", started.elapsed().as_millis());
        failures = if result.is_ok() { 0 } else { failures + 1 };
        match result {
            Err(failure) if failures == 3 => ControlFlow::Break(failure),
            _ => ControlFlow::Continue(()),
        }
    };
    let signal = async {
        sleep(Duration::from_millis(7_100)).await;
        stop.cancel(); // a signal, in a real program
    };
    let (ended, ()) = tokio::join!(periodic(schedule, &stop, refresh, report), signal);
    let end = match ended {
        Ok(Ended::Stopped) => "stopped".to_owned(),
        Ok(Ended::CutOff { due }) => format!("the run due at {:?} was cut off", due - started),
        Ok(Ended::Broke(failure)) => format!("given up: {failure}"),
        Err(error) => error.to_string(),
    };
    println!("{:>4} ms  {end}", started.elapsed().as_millis());
}
