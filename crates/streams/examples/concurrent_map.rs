//! cargo run --example concurrent_map
//!
//! Six pages are downloaded, three at a time, and each is stored as it arrives, which is slow. With
//! the bare combinator the downloads stand still while a page is stored; the recipe goes on with
//! them. One download panics, and is told of in its turn.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use streams::concurrent_map::{Order, concurrent_map};
use tokio::time::{Instant, sleep};

/// Which page, and how many milliseconds it takes to download.
const PAGES: [(&str, u64); 6] = [
    ("ants", 100),
    ("bees", 80),
    ("crickets", 120),
    ("dragons", 30),
    ("earwigs", 90),
    ("fleas", 110),
];

async fn download((page, takes): (&'static str, u64)) -> &'static str {
    sleep(Duration::from_millis(takes)).await;
    assert!(page != "dragons", "no such insect");
    page
}

async fn store(started: Instant, page: &str) {
    let from = started.elapsed().as_millis();
    sleep(Duration::from_millis(50)).await;
    let to = started.elapsed().as_millis();
    println!("{from:>4} to {to:>3} ms  stores {page}");
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the result tells of the panic; once is enough
    let limit = NonZeroUsize::MIN.saturating_add(2);

    println!("buffer_unordered:");
    let started = Instant::now();
    let real = PAGES.into_iter().filter(|(page, _)| *page != "dragons"); // its panic would end this
    let downloads = stream::iter(real).map(download);
    let mut pages = pin!(downloads.buffer_unordered(limit.get()));
    while let Some(page) = pages.next().await {
        store(started, page).await;
    }

    println!("concurrent_map:");
    let started = Instant::now();
    let mut pages = concurrent_map(limit, Order::Ends, stream::iter(PAGES), download);
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) => pages.during(store(started, page)).await,
            Err(panicked) => println!("{panicked}"),
        }
    }
}
