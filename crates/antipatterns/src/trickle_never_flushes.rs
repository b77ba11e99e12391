//! # A trickle that is never flushed: a timeout that each item begins anew
//!
//! Rows are inserted by the thousand, and no row should wait for longer than a second: `timeout`
//! around `recv`, and a flush when it passes. It passes when there is *nothing* for a second. Rows
//! that come a little faster than that wait until a thousand of them are there.
//!
//! ## You have it when
//! - data shows up after minutes by night, at once by day, and at once when nothing comes any more;
//! - `timeout(wait, items.recv())` or `sleep(wait)` stands in the loop that collects.
//!
//! ## What it does to you
//! - With up to 1,000 rows a batch, a wait of 1 s and a row each 900 ms, the first row waits for
//!   899.1 s: 15 minutes instead of one second.
//! - A burst and then nothing is flushed after a second, and so its test passes.
//!
//! ## Use instead
//! - `micro_batch`, which counts from the first item of a batch.

use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// Collects rows into batches of up to `most`, and flushes a batch after `wait` at the latest.
pub async fn flush_batches<T>(
    mut rows: Receiver<T>,
    most: usize,
    wait: Duration,
    mut flush: impl AsyncFnMut(Vec<T>),
) {
    let mut batch = Vec::new();
    let mut is_open = true;
    while is_open {
        match timeout(wait, rows.recv()).await {
            // counts from the last row, not from the first
            Ok(Some(row)) => batch.push(row),
            Ok(None) => is_open = false,
            Err(_) if batch.is_empty() => continue,
            Err(_) => flush(std::mem::take(&mut batch)).await,
        }
        if batch.len() >= most || (!is_open && !batch.is_empty()) {
            flush(std::mem::take(&mut batch)).await;
        }
    }
}
