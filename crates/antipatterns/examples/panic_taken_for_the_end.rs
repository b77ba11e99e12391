//! cargo run --example panic_taken_for_the_end
//!
//! A hundred lines are parsed and the rows committed. The parser panics at line 42.

use std::num::NonZeroUsize;

use antipatterns::panic_taken_for_the_end::import;
use futures_util::stream;
use structured::pipeline::{Pipeline, StageFailed};

const ROOM: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);

fn parse(line: u32) -> u32 {
    assert!(line != 42, "line {line} has no price");
    line
}

async fn import_all(lines: Vec<u32>) -> Result<Vec<u32>, StageFailed<String>> {
    let lines = stream::iter(lines.into_iter().map(Ok));
    let mut pipeline =
        Pipeline::new("read", ROOM, lines).stage("parse", async |line| Ok(parse(line)));
    let mut rows = Vec::new();
    while let Some(row) = pipeline.next().await? {
        rows.push(row);
    }
    Ok(rows)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the pipeline is to tell of it
    let lines: Vec<u32> = (1..=100).collect();
    for parsers in [1, 4] {
        let commit = |rows: Vec<u32>| println!("committed: {} of 100 rows", rows.len());
        print!("channels, {parsers} parsers: ");
        import(lines.clone(), parsers, parse, commit).await;
    }
    match import_all(lines).await {
        Ok(rows) => println!("pipeline: committed: {} rows", rows.len()),
        Err(failed) => println!("pipeline: nothing is committed: {failed}"),
    }
}
