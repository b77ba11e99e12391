//! # A panic taken for the end: `while let Some(row) = rows.recv().await`, then commit
//!
//! A stage reads lines, a stage parses them, and the last one collects the rows until there is no
//! more and commits. Channels join them. A stage that panics drops its sender, just as one that is
//! done does: the next stage sees the end of its input, which is what it waits for.
//!
//! ## You have it when
//! - an import, an export or a backup says that it is complete, and some of it is missing;
//! - what is missing is everything from one record on, or, where several workers parse, single ones;
//! - a panic is on the standard error, and the program's exit code is 0.
//!
//! ## What it does to you
//! - Of a hundred lines the 42nd makes the parser panic: 41 rows are committed as if they were all.
//! - With four parsers on one queue 99 rows are committed, and not even the end is missing.
//! - The stage before it sees its receiver gone, and ends as quietly.
//!
//! ## Use instead
//! - `pipeline`: a stage that fails or panics ends all of them, and its last item is an error with
//!   the name of the stage; `None` comes only after a clean end of all;
//! - by hand: keep the handles, and await each with `task_errors` before the commit.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

/// Parses lines in so many tasks, and commits the rows when there are no more.
pub async fn import<T, U>(
    lines: impl IntoIterator<Item = T, IntoIter: Send> + Send + 'static,
    parsers: usize,
    parse: impl Fn(T) -> U + Clone + Send + 'static,
    commit: impl FnOnce(Vec<U>),
) where
    T: Send + 'static,
    U: Send + 'static,
{
    let (to_parse, unparsed) = mpsc::channel(16);
    tokio::spawn(async move {
        for line in lines {
            if to_parse.send(line).await.is_err() {
                break;
            }
        }
    });
    let (parsed, mut to_commit) = mpsc::channel(16);
    let unparsed = Arc::new(Mutex::new(unparsed));
    for _ in 0..parsers {
        let (unparsed, parsed, parse) = (Arc::clone(&unparsed), parsed.clone(), parse.clone());
        tokio::spawn(async move {
            while let Some(line) = { unparsed.lock().await.recv().await } {
                parsed.send(parse(line)).await.ok();
            }
        });
    }
    drop(parsed);
    let mut rows = Vec::new();
    while let Some(row) = to_commit.recv().await {
        rows.push(row);
    }
    commit(rows); // `None` says that the senders are gone, not why
}
