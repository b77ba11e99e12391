//! cargo run --example spans
//!
//! Two requests at once, on their way through a task, a channel to an actor, and a thread that may
//! block. Each line of the log names its request. One of them also spawns as one usually does: that
//! line is nobody's. The clock is virtual, so it ends at once.

use std::error::Error;
use std::time::Duration;

use observability::spans::{InSpan, in_current_span, spawn};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{Instrument, debug, error_span, info, warn};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
type Query = InSpan<(&'static str, oneshot::Sender<usize>)>;

/// An actor: one task for all requests, whose events are theirs all the same.
async fn database(mut queries: mpsc::Receiver<Query>) {
    while let Some(query) = queries.recv().await {
        let answer = query.handle(async |(text, reply)| {
            sleep(Duration::from_millis(20)).await;
            info!("asked for {text}");
            if reply.send(text.len()).is_err() {
                warn!("nobody waits for the answer");
            }
        });
        answer.await;
    }
}

async fn request(page: &'static str, database: mpsc::Sender<Query>) -> Result<()> {
    info!("wants {page}");
    let task = spawn(async move {
        let (reply, rows) = oneshot::channel();
        database.send(InSpan::here((page, reply))).await?;
        let rows = rows.await?;
        let render = in_current_span(move || debug!(rows, "rendered, on a thread that may block"));
        spawn_blocking(render).await?;
        Result::Ok(rows)
    });
    if page == "/shop" {
        tokio::spawn(async { warn!("a task that was spawned without the span") }).await?;
    }
    info!("has {} rows", task.await??);
    Ok(())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<()> {
    let log = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_target(false);
    log.with_max_level(tracing::Level::DEBUG).init();
    let (queries, receiver) = mpsc::channel(8);
    let database = tokio::spawn(database(receiver));
    let news = request("/news", queries.clone()).instrument(error_span!("request", id = 1));
    let shop = request("/shop", queries).instrument(error_span!("request", id = 2));
    tokio::try_join!(news, shop)?;
    Ok(database.await?)
}
