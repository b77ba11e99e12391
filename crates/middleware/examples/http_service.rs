//! cargo run --example http_service
//!
//! A server that works on one request at a time and lets none wait, and a client that asks for more
//! than that. Real connections on a port of its own: no times are printed.

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use middleware::http_service::{Limits, protect, serve};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

async fn item(Path(id): Path<u32>) -> String {
    assert!(id != 13, "a bug");
    format!("item {id}")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    std::panic::set_hook(Box::new(|_| {})); // the answer tells of the panic; once is enough
    let (started, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (starts, opens) = (Arc::clone(&started), Arc::clone(&gate));
    let app = Router::new()
        .route("/item/{id}", get(item))
        .route("/hang", get(async || std::future::pending::<()>().await))
        .route(
            "/report",
            get(async move || {
                starts.add_permits(1);
                let opened = opens.acquire().await.map(SemaphorePermit::forget);
                opened.map_or("closed", |()| "the report")
            }),
        );
    let limits = Limits {
        running: NonZeroUsize::MIN,
        waiting: 0,
        time_limit: Duration::from_secs(2),
        retry_after: Duration::from_secs(5),
    };
    // What is added outside of the limits always answers.
    let app = protect(limits, app).route("/health", get(async || "up"));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, app, stop.clone(), Duration::from_secs(10)));

    let client = reqwest::Client::builder()
        .no_proxy() // a proxy that the environment names would not find this server
        .timeout(Duration::from_secs(30))
        .build()?;
    for path in ["/item/12", "/item/13", "/hang"] {
        let status = client.get(format!("{url}{path}")).send().await?.status();
        println!("{path}: {status}");
    }

    let report = tokio::spawn(client.get(format!("{url}/report")).send());
    started.acquire().await?.forget();
    println!("/report is being worked on");
    let refused = client.get(format!("{url}/report")).send().await?;
    let after = refused.headers().get("retry-after");
    println!(
        "another /report: {}, retry after {after:?}",
        refused.status()
    );
    let health = client.get(format!("{url}/health")).send().await?;
    println!("/health: {}, {}", health.status(), health.text().await?);

    stop.cancel();
    println!("the server is told to stop");
    gate.add_permits(1);
    let report = report.await??;
    println!("/report: {}, {}", report.status(), report.text().await?);
    println!("the server ended: {:?}", server.await?);
    Ok(())
}
