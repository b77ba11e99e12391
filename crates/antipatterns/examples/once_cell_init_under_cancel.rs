//! cargo run --example once_cell_init_under_cancel
//!
//! A table takes 250 ms to load. Requests come each 50 ms for ten seconds, and each waits for 100
//! ms.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antipatterns::once_cell_init_under_cancel::Lazy;
use sync::single_flight::SingleFlight;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const MS: Duration = Duration::from_millis(1);

async fn load(begun: Arc<AtomicU32>) -> &'static str {
    begun.fetch_add(1, Ordering::Relaxed);
    sleep(250 * MS).await;
    "table"
}

/// Makes the requests, and prints what came of them.
async fn print<F>(name: &str, request: impl Fn(Arc<AtomicU32>) -> F)
where
    F: Future<Output = &'static str> + Send + 'static,
{
    let begun = Arc::new(AtomicU32::new(0));
    let mut requests = JoinSet::new();
    for _ in 0..200 {
        requests.spawn(timeout(100 * MS, request(Arc::clone(&begun))));
        sleep(50 * MS).await;
    }
    let ends = requests.join_all().await;
    let answered = ends.iter().filter(|end| end.is_ok()).count();
    println!("{name} {answered:>3} of 200 answered, {begun:?} loads begun");
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let lazy = Arc::new(Lazy::new());
    let get = |begun| {
        let lazy = Arc::clone(&lazy);
        async move { lazy.get(|| load(begun)).await }
    };
    print("OnceCell:     ", get).await;

    // What the flight brings is kept by the first who sees it.
    let (cell, flights) = (
        Arc::new(std::sync::OnceLock::new()),
        Arc::new(SingleFlight::new()),
    );
    let get = |begun| {
        let (cell, flights) = (Arc::clone(&cell), Arc::clone(&flights));
        async move {
            if let Some(table) = cell.get() {
                return *table;
            }
            let table = flights
                .run("table", || load(begun))
                .await
                .unwrap_or("a panic");
            cell.get_or_init(|| table)
        }
    };
    print("single_flight:", get).await;
}
