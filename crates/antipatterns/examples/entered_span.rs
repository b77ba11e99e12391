//! cargo run --example entered_span
//!
//! Three requests and a health check at once, on one thread and the virtual clock. Each line shows the
//! ids that the event carries: with an entered guard, and with the span around the future.

use std::time::Duration;

use antipatterns::entered_span::serve;
use observability::spans::InSpan;
use testing::capture_events::Capture;
use tokio::time::sleep;
use tracing::{error_span, info};

async fn query(id: u64) {
    sleep(Duration::from_millis(10 * id)).await;
}

async fn health_check() {
    sleep(Duration::from_millis(5)).await;
    info!("the health check is well");
}

/// The same, mended.
async fn serve_in_span(id: u64) {
    let request = InSpan::of(id, error_span!("request", id));
    let handler = async |id| {
        info!("begins");
        query(id).await;
        info!("ends");
    };
    request.handle(handler).await;
}

fn print(title: &str, capture: &Capture) {
    println!("{title}");
    for event in capture.events() {
        let ids: Vec<_> = event.spans.iter().flat_map(|(_, fields)| fields).collect();
        let ids: Vec<_> = ids.iter().map(|(_, id)| id.as_str()).collect();
        println!("  {:8} {}", ids.join(" in "), event.message);
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let capture = Capture::of("");
    let guard = capture.start();
    let requests = [1, 2, 3].map(|id| serve(id, query(id)));
    let [one, two, three] = requests;
    tokio::join!(one, two, three, health_check());
    drop(guard);
    print("entered_span:", &capture);

    let capture = Capture::of("");
    let guard = capture.start();
    let [one, two, three] = [1, 2, 3].map(serve_in_span);
    tokio::join!(one, two, three, health_check());
    drop(guard);
    print("spans:", &capture);
}
