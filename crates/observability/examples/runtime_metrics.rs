//! cargo run --example runtime_metrics
//!
//! A runtime of two workers is watched. First one of them is blocked, then both, each time until the
//! watchdog has told. Nothing is printed that depends on how long it took.

use std::error::Error;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use observability::runtime_metrics::{Event, Report, Settings, Watchdog};
use tokio::runtime::Builder;

fn print(report: &Report) {
    let name = &report.runtime;
    match &report.event {
        Event::WorkerHeld(..) => println!("{name}: a worker does not come back from its task"),
        Event::WorkerFree(..) => println!("{name}: it has come back"),
        Event::Stalled(_, held) => {
            let alive = report.metrics.alive_tasks;
            println!("{name}: no task runs, workers {held:?} are held, {alive} tasks are alive");
        }
        Event::Recovered(_) => println!("{name}: tasks run again"),
        Event::Ended => println!("{name}: has shut down"),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings {
        period: Duration::from_millis(20),
        limit: Duration::from_millis(500),
    };
    let runtime = Builder::new_multi_thread().worker_threads(2).build()?;
    let (told, reports) = sync_channel(16);
    let watchdog = Watchdog::start("api", runtime.handle().clone(), settings, move |report| {
        told.send(report).ok();
    })?;

    for blocked in [1, 2] {
        let (releases, jobs): (Vec<_>, Vec<_>) = (0..blocked).map(|_| sync_channel(1)).unzip();
        for job in jobs {
            runtime.spawn(async move { job.recv().ok() }); // it blocks: there is no await
        }
        println!("{blocked} of 2 workers blocked");
        let told = |event: &Event| match event {
            Event::WorkerHeld(..) => blocked == 1,
            Event::Stalled(..) => blocked == 2,
            _ => false,
        };
        for report in &reports {
            print(&report);
            if told(&report.event) {
                break;
            }
        }
        for job in releases {
            job.send(())?;
        }
        print(&reports.recv()?); // the end of it
    }
    drop(runtime);
    print(&reports.recv()?);
    drop(watchdog);
    Ok(())
}
