//! # Retries in every layer: three tries of three tries of three tries
//!
//! The database's client tries a query three times, since networks fail. The repository tries the
//! client three times, and the handler tries the repository three times: each of them is modest, and
//! each was written by somebody else. While all is well nobody notices.
//!
//! ## You have it when
//! - in an outage a server gets many times the requests that its users make;
//! - it stays down when the cause is gone, always busy, until somebody stops the clients;
//! - an error takes far longer to arrive than any time limit in the code.
//!
//! ## What it does to you
//! - One request that fails is 27 calls, so an outage multiplies the load by 27.
//! - With a limit of 500 ms for each call the user waits 13.5 s for the error.
//! - A server that is busy for 62 % of the time stands still for two seconds, once, and never
//!   recovers: ten seconds later all its answers still come too late for who asked. With retries for
//!   a tenth of the requests it answers everybody again.
//!
//! ## Use instead
//! - `retry_budget`, one for each destination: retries are a share of the requests, whatever fails;
//! - `backoff`, in one layer, and `retryable`: its `Never` tells the layers above to leave it.

/// The client, which is a library's most often.
async fn query<T, E, F>(mut send: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut tries = 1;
    loop {
        match send().await {
            Err(_) if tries < 3 => tries += 1,
            result => return result,
        }
    }
}

/// The repository.
async fn find_user<T, E, F>(mut send: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut tries = 1;
    loop {
        match query(&mut send).await {
            Err(_) if tries < 3 => tries += 1, // by now it has been sent three times
            result => return result,
        }
    }
}

/// The handler. `send` sends the query over the network.
///
/// # Errors
///
/// That of the last query.
pub async fn show_user<T, E, F>(mut send: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut tries = 1;
    loop {
        match find_user(&mut send).await {
            Err(_) if tries < 3 => tries += 1, // by now, nine times
            result => return result,
        }
    }
}
