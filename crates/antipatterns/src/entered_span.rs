//! # Entered span: a guard held across an await
//!
//! Each request makes a span with its id and enters it on the first line, as the sync code did. In the
//! test, with one request, the log is right. In production the id on a line is now and then that of
//! another request, and whoever follows it looks into the wrong one.
//!
//! ## You have it when
//! - events of a request carry the id of one that ran at the same time, or two ids, one in the other;
//! - the health check or a timer, which belongs to no request, has a request's id;
//! - one thread of the runtime writes the same id on every line, for as long as that request takes.
//!
//! ## What it does to you
//! - Three requests that wait at once: all three end with the id of the last. Two of three are wrong.
//! - The guard counts for its thread, not for its task: a task without a span takes the id over.
//! - A task that goes on on another thread leaves the first one inside of the span until it ends:
//!   what runs there meanwhile has its id, also while nobody polls it.
//! - Nobody objects: `Entered` is `Send`, and `tokio::spawn` takes the future. Only the guard of
//!   `span.entered()` is not. Clippy objects where its `await-holding-invalid-types` names
//!   `tracing::span::Entered`.
//!
//! ```compile_fail
//! tokio::spawn(async {
//!     let _guard = tracing::error_span!("request").entered(); // error: cannot be sent between threads
//!     tokio::task::yield_now().await;
//! });
//! ```
//!
//! ## Use instead
//! - `spans`: `.instrument(span)` on the future, which enters at each poll and leaves after it; and
//!   `in_scope` for a closure, in which there is no await.

use tracing::{error_span, info};

/// Does the work of a request, and tells when it begins and ends.
#[expect(
    clippy::await_holding_invalid_type,
    reason = "the lint is right, and off unless clippy.toml names the type"
)]
pub async fn serve<T>(id: u64, work: impl Future<Output = T>) -> T {
    let span = error_span!("request", id);
    let _guard = span.enter(); // this thread is in the span until the end, whoever runs on it
    info!("begins");
    let result = work.await;
    info!("ends");
    result
}
