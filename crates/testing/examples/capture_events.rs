//! cargo run --example capture_events
//!
//! Two requests run at the same time, and each event has to name its own. One of them forgets it when
//! it spawns. The clock is virtual, so it ends at once.

use std::time::Duration;

use testing::capture_events::Capture;
use tokio::time::sleep;
use tracing::{Instrument, info, info_span, warn};

async fn store(bytes: usize) {
    sleep(Duration::from_millis(10)).await;
    if bytes > 100 {
        warn!(bytes, "that is a large one");
    }
}

async fn request(bytes: usize, forgets: bool) {
    info!("begins");
    let stored = if forgets {
        tokio::spawn(store(bytes))
    } else {
        tokio::spawn(store(bytes).in_current_span())
    };
    if stored.await.is_ok() {
        info!("is done");
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let capture = Capture::of("capture_events");
    let guard = capture.start();
    let one = request(120, false).instrument(info_span!("request", id = 1));
    let two = request(500, true).instrument(info_span!("request", id = 2));
    tokio::join!(one, two);
    drop(guard);
    info!("nobody hears this");

    for event in capture.events() {
        let id = event.field("id").unwrap_or("no request");
        println!("{id:10} | {event}");
    }
}
