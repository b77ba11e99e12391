//! What a pipeline of bare channels makes of a stage that panics.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use antipatterns::panic_taken_for_the_end::import;
use futures_util::stream;
use structured::pipeline::{Cause, Pipeline, StageFailed};

fn parse(line: u32) -> u32 {
    assert!(line != 42, "line 42 has no price");
    line
}

async fn committed(parsers: usize) -> Vec<u32> {
    let mut committed = Vec::new();
    import(1..=100, parsers, parse, |rows| committed = rows).await;
    committed
}

#[tokio::test]
async fn harm_the_rows_before_the_panic_are_committed_as_if_they_were_all() {
    assert_eq!(committed(1).await, (1..=41).collect::<Vec<_>>());
}

#[tokio::test]
async fn harm_with_four_parsers_one_row_in_the_middle_is_missing() {
    let mut rows = committed(4).await;
    rows.sort_unstable();
    assert_eq!(rows, (1..=41).chain(43..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn harm_the_stage_before_the_panic_ends_as_quietly() {
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    let lines = (1..=1000).inspect(move |_| {
        count.fetch_add(1, Relaxed);
    });
    import(lines, 1, parse, |rows| assert_eq!(rows.len(), 41)).await;
    assert!(read.load(Relaxed) < 100, "of a thousand: {read:?}");
}

#[tokio::test]
async fn mended_a_panic_is_an_error_and_nothing_is_committed() {
    for parsers in [1, 4] {
        let parsers = NonZeroUsize::new(parsers).unwrap();
        let capacity = NonZeroUsize::new(16).unwrap();
        let lines = stream::iter((1..=100).map(Ok::<u32, String>));
        let mut pipeline = Pipeline::new("read", capacity, lines).concurrent_stage(
            "parse",
            parsers,
            async |line| Ok(parse(line)),
        );
        let mut rows = Vec::new();
        let end = loop {
            match pipeline.next().await {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => break Ok(rows), // commits
                Err(failed) => break Err(failed),
            }
        };
        let expected = StageFailed {
            stage: "parse".into(),
            cause: Cause::Panicked("line 42 has no price".to_owned()),
        };
        assert_eq!(end, Err(expected));
    }
}
