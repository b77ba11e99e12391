//! cargo run --example pipeline
//!
//! Pages are fetched by two workers, counted, and stored; storing is the slowest. Soon a page is taken
//! from the source only when one has been stored. The second run fails: a page is empty, the rest
//! is stopped, and the error names the stage. The clock is virtual, so it ends at once.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use structured::pipeline::{Pipeline, StageFailed};
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

async fn fetch(page: usize) -> Result<String, String> {
    sleep(60 * MS).await;
    let words = if page == 13 { 0 } else { page * 100 };
    Ok("word ".repeat(words))
}

async fn count(text: String) -> Result<usize, String> {
    sleep(10 * MS).await;
    match text.split_whitespace().count() {
        0 => Err("an empty page".to_owned()),
        words => Ok(words),
    }
}

async fn store(words: usize) -> Result<usize, String> {
    sleep(100 * MS).await;
    Ok(words)
}

async fn run(first: usize, last: usize) -> Result<usize, StageFailed<String>> {
    let started = Instant::now();
    let at = move || format!("{:>3} ms", started.elapsed().as_millis());
    let one = NonZeroUsize::MIN;
    let two = one.saturating_add(1);
    let pages = stream::iter(first..=last).inspect(move |page| println!("{}  page {page}", at()));
    let mut pipeline = Pipeline::new("list", one, pages.map(Ok))
        .concurrent_stage("fetch", two, fetch)
        .stage("count", count)
        .stage("store", store);
    println!("at most {} pages on their way", pipeline.limit());
    let mut total = 0;
    while let Some(words) = pipeline.next().await? {
        println!("{}  stored {words} words", at());
        total += words;
    }
    Ok(total)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    for (first, last) in [(1, 7), (11, 15)] {
        match run(first, last).await {
            Ok(words) => println!("{words} words in all\n"),
            Err(failed) => println!("{failed}"),
        }
    }
}
