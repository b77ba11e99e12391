//! # Backoff without jitter: equal waits for all who failed together
//!
//! The call is tried again after 100 ms, 200 ms, 400 ms, as everybody advises, and alone the program
//! behaves. In production a thousand copies of it lose the same server in the same instant, wait for
//! equally long, and come back in the same instant.
//!
//! ## You have it when
//! - after an incident the rate of requests is a comb: a spike, a gap, a spike, a gap twice as long;
//! - the server is idle most of the time and turns most calls away;
//! - a deployment of one service brings another one down, and again after each wait.
//!
//! ## What it does to you
//! - A thousand clients that failed together arrive in the same instant, at every retry.
//! - A server that takes 50 calls in 10 ms serves 50 of them each time. After seven retries, 12.7 s
//!   later, it has served 350, the other 650 have given up, and it had something to do in seven of
//!   1,271 times 10 ms. With full jitter it serves all thousand within a second.
//! - A tenth of chance, `wait * 0.9..=1.1`, still has all thousand arrive within 20 ms.
//!
//! ## Use instead
//! - `backoff`: each wait is random, from nothing to a ceiling that doubles. Its `Waits` is for a
//!   loop of your own;
//! - `backon_retry`, where the project has backon, whose defaults are without jitter, too.

use std::time::Duration;

use tokio::time::sleep;

/// Retries after the first call. The last of them waits for 6.4 s.
const RETRIES: u32 = 7;

/// Calls again with exponential backoff.
///
/// # Errors
///
/// That of the last call.
pub async fn with_backoff<T, E, F>(mut call: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut retries = 0;
    loop {
        match call().await {
            Err(_) if retries < RETRIES => {
                // Everyone who failed at this instant wakes up at the same next one.
                sleep(Duration::from_millis(100) * 2_u32.pow(retries)).await;
                retries += 1;
            }
            result => return result,
        }
    }
}
