//! # Retry after a timeout: a payment that was made is made again
//!
//! A request had no answer within a second, so it is sent again, three times in all. The other side
//! had received it each time and did what it asked: it was slow, or only its answer was lost.
//!
//! ## You have it when
//! - on days on which something is slow, customers are charged twice, or get a mail three times;
//! - there are pairs of orders, a few seconds apart, and the log tells of a `timed out` for each;
//! - a user was told of a failure, and what he asked for was done.
//!
//! ## What it does to you
//! - A bank that needs 1.2 s books three payments, and the payer is told that it failed.
//! - One answer that is lost with its connection is enough: booked twice, and told as paid once.
//! - `timeout` ends the wait, not the work: what was sent is carried out after it, too.
//!
//! ## Use instead
//! - `retryable`: the error says `IfIdempotent` where nobody knows whether it was done, so that a
//!   payment is not sent again then, and still is if it was refused;
//! - a key in the request, by which the other side knows it again, and then `backoff`.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

/// Sends a payment, and sends it again if it fails or its answer does not come within a second.
///
/// # Errors
///
/// That of the third try.
pub async fn pay<T, F>(post: impl Fn() -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut tries = 1;
    loop {
        let answer = timeout(Duration::from_secs(1), post()).await;
        match answer.unwrap_or_else(|late| Err(late.into())) {
            Err(_) if tries < 3 => tries += 1, // no answer does not mean not done
            result => return result,
        }
    }
}
