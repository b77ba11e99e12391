//! cargo run --example scope
//!
//! A copy runs with a heartbeat, a log and three helpers beside it. It fails after 250 ms, and all of
//! them have ended when the scope returns: two when they were asked, one by abort, one had finished
//! before and one panicked. The report tells which. The clock is virtual, so it ends at once.

use std::convert::identity;
use std::time::Duration;

use structured::scope::{StopLimits, scope};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const MS: Duration = Duration::from_millis(1);

async fn heartbeat(started: Instant, stop: CancellationToken) -> Result<(), String> {
    while stop.run_until_cancelled(sleep(100 * MS)).await.is_some() {
        println!("{:>3} ms  still copying", started.elapsed().as_millis());
    }
    Ok(())
}

async fn log(stop: CancellationToken) -> Result<(), String> {
    stop.cancelled().await;
    sleep(20 * MS).await; // writes what it has
    Err("the disk is full".to_owned())
}

async fn takes_no_hint() -> Result<(), String> {
    sleep(3_600_000 * MS).await;
    Ok(())
}

async fn preview(pages: usize) -> Result<(), String> {
    sleep(50 * MS).await;
    assert!(pages > 0, "there is no first page");
    Ok(())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the report tells of the panic; once is enough
    let started = Instant::now();
    let limits = StopLimits {
        finish: 500 * MS,
        abort: 100 * MS,
    };
    let of_the_program = CancellationToken::new();
    let ended = scope(&of_the_program, limits, async |scope| {
        let size = scope.spawn("size", async |_| Ok(4096))?;
        scope.spawn("heartbeat", move |stop| heartbeat(started, stop))?;
        scope.spawn("log", log)?;
        scope.spawn("index", |_| takes_no_hint())?;
        scope.spawn("preview", |_| preview(0))?;
        let size = size.await?;
        sleep(250 * MS).await;
        println!("{:>3} ms  the copy fails", started.elapsed().as_millis());
        let failed: Result<(), Box<dyn std::error::Error>> =
            Err(format!("the target has no room for {size} bytes").into());
        failed
    })
    .await;

    println!("{:>3} ms  the scope returns", started.elapsed().as_millis());
    let body = ended
        .body
        .map(|copied| copied.map_err(|error| error.to_string()));
    let body = body
        .map_err(|panicked| panicked.to_string())
        .and_then(identity);
    println!("copy: {body:?}");
    for (name, outcome) in ended.children {
        println!("{name}: {outcome:?}");
    }
}
