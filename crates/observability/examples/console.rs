//! cargo run --example console
//!
//! A program with three faults that its log does not show. Built as usual it says what the console
//! lacks, and ends. Built as that says, it runs for two minutes: look at it with `tokio-console`.

use std::error::Error;
use std::future::{pending, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use observability::console::{console, spawn_named};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep, sleep_until};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Computes, and never comes to an await.
#[expect(clippy::unused_async, reason = "one of the faults")]
async fn parse_everything(until: Instant) {
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// Asks again and again, instead of waiting: as a future by hand does that wakes itself.
async fn poll_for_work() {
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    })
    .await;
}

/// Waits for something that will never wake it.
async fn wait_for_reply() {
    pending::<()>().await;
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + Duration::from_secs(120);
    for number in 1..=3 {
        spawn_named(&format!("healthy-{number}"), async {
            loop {
                sleep(Duration::from_millis(100)).await;
            }
        })?;
    }
    spawn_named("parse-everything", parse_everything(end))?;
    spawn_named("poll-for-work", poll_for_work())?;
    spawn_named("wait-for-reply", wait_for_reply())?;
    sleep_until(end).await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 6669));
    let (console, address) = match console(address, Duration::from_secs(60)) {
        Ok(console) => console,
        Err(error) => {
            println!("no console: {error}");
            return Ok(());
        }
    };
    let log = tracing_subscriber::fmt::layer().with_filter(LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(console)
        .with(log)
        .init();
    println!("tokio-console http://{address}");
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve())
}
