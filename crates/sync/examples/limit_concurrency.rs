//! cargo run --example limit_concurrency
//!
//! Two queries may run and two may wait. Of six that come at once, two are refused; one that runs
//! panics, and its permit is used by the next. The clock is virtual, so it ends at once.

use std::num::NonZeroUsize;
use std::time::Duration;

use sync::limit_concurrency::{Limiter, Limits};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the panic is printed below; once is enough
    let started = Instant::now();
    let at = move || format!("{:>3} ms", started.elapsed().as_millis());
    let limiter = Limiter::new(Limits {
        running: NonZeroUsize::MIN.saturating_add(1),
        waiting: 2,
    });

    let mut callers = JoinSet::new();
    for query in 1..=6 {
        let limiter = limiter.clone();
        callers.spawn(async move {
            let work = async {
                println!("{}  query {query} runs", at());
                sleep(Duration::from_millis(query * 100)).await;
                assert!(query != 1, "query 1 is malformed");
            };
            match limiter.run(work).await {
                Ok(()) => println!("{}  query {query} is done", at()),
                Err(refused) => println!("{}  query {query}: {refused}", at()),
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        if ended.is_err() {
            println!("{}  a caller panicked", at());
        }
    }

    if let Ok(permit) = limiter.acquire().await {
        tokio::spawn(permit.run(sleep(Duration::from_millis(150))));
    }
    limiter.drain().await;
    println!("{}  drained: nothing runs any more", at());
    if let Err(refused) = limiter.acquire().await {
        println!("{}  one more: {refused}", at());
    }
}
