//! cargo run --example sync_bridge
//!
//! Both directions. First a plain `main` calls async code. Then async code calls a blocking function
//! of somebody else's, whose callback awaits in turn.

use std::time::Duration;

use runtime::sync_bridge::{AsyncThread, CallError, Reentry, call_blocking};
use tokio::sync::mpsc;
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(5);

/// Stands for a client library that is async.
async fn look_up(word: &str) -> usize {
    sleep(Duration::from_millis(5)).await;
    word.len()
}

/// Stands for a parser that knows nothing of async, and calls back for each word.
fn parse(text: &str, mut on_word: impl FnMut(&str)) {
    text.split_whitespace().for_each(&mut on_word);
}

async fn index(text: &'static str) -> Result<Vec<String>, CallError> {
    let (words, mut indexed) = mpsc::channel(2);
    let parsing = call_blocking(move |reentry: &mut Reentry| {
        parse(text, |word| {
            // The bounded channel holds the parser back, without blocking a worker.
            drop(reentry.wait(LIMIT, words.send(word.to_owned())));
        });
    });
    let collecting = async {
        let mut all = Vec::new();
        while let Some(word) = indexed.recv().await {
            all.push(format!("{word}={}", look_up(&word).await));
        }
        all
    };
    let (parsed, all) = tokio::join!(parsing, collecting);
    parsed.map(|()| all)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bridge = AsyncThread::start("bridge")?;
    println!(
        "from a plain thread: {}",
        bridge.call(LIMIT, look_up("ferris"))?
    );
    println!(
        "and back: {:?}",
        bridge.call(LIMIT, index("one file one job"))??
    );

    let never = std::future::pending::<()>();
    if let Err(error) = bridge.call(Duration::from_millis(10), never) {
        println!("a call that never ends: {error}");
    }
    // From within a runtime a bare block_on would panic here.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let inside = runtime.block_on(async { bridge.call(LIMIT, look_up("crab")) })?;
    println!("from inside another runtime: {inside}");
    Ok(())
}
