//! cargo run --example single_flight
//!
//! Five tasks ask for a page while it loads, and it is loaded once, although the task that started
//! it gives up half way. The next load fails, for all who wait, and the one after that works. The
//! clock is virtual, so it ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sync::single_flight::SingleFlight;
use tokio::time::{Instant, sleep, timeout};

#[derive(Debug, Clone, thiserror::Error)]
#[error("the server is down")]
struct Down;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let say = |what: String| println!("{:>3} ms  {what}", started.elapsed().as_millis());
    let pages = SingleFlight::<&str, Result<String, Down>>::new();
    let loads = Arc::new(AtomicU32::new(0));

    let load = |page: &'static str| {
        let loads = Arc::clone(&loads);
        move || async move {
            let load = loads.fetch_add(1, Ordering::Relaxed) + 1;
            sleep(Duration::from_millis(100)).await;
            if load == 2 {
                return Err(Down);
            }
            Ok(format!("{page}, by load {load}"))
        }
    };
    let visit = async |visitor: &str, comes: u64, patience: u64| {
        sleep(Duration::from_millis(comes)).await;
        let page = pages.run("news", load("news"));
        match timeout(Duration::from_millis(patience), page).await {
            Ok(Ok(Ok(page))) => say(format!("{visitor}: {page}")),
            Ok(Ok(Err(down))) => say(format!("{visitor}: {down}")),
            Ok(Err(panicked)) => say(format!("{visitor}: {panicked}")),
            Err(_) => say(format!("{visitor} waits no longer")),
        }
    };
    tokio::join!(
        visit("Ada", 0, 50),
        visit("Ben", 10, 1_000),
        visit("Cleo", 20, 1_000),
        visit("Dan", 110, 1_000),
        visit("Eve", 190, 1_000),
        visit("Finn", 300, 1_000),
    );
    say(format!(
        "{} loads, {} under way",
        loads.load(Ordering::Relaxed),
        pages.in_flight()
    ));
}
