//! # First result wins: select! over alternatives that can fail
//!
//! Two replicas have the answer, and the quicker one will do: `select!` with a branch for each. It
//! takes the first branch that is done, and nothing is done as quickly as a refusal. So the one
//! replica that is down answers for both.
//!
//! ## You have it when
//! - one of two replicas goes down, and *all* requests fail, in a millisecond;
//! - the errors are those of the broken one, the healthy one's log has requests that were given up;
//! - or, with patterns such as `Ok(answer) = …`, a panic says
//!   `all branches are disabled and there is no else branch`.
//!
//! ## What it does to you
//! - Of 100 requests to a primary that refuses within 1 ms and a replica that answers after 20 ms,
//!   100 failed. With the healthy one alone none would have.
//! - With patterns they are answered, until both fail: then the task panics, and both errors are
//!   lost.
//!
//! ## Use instead
//! - `first_success`: the first `Ok` wins, an error only if all have failed, and then all of them.
//!   It can start the second only when the first is slow or has failed.

use tokio::select;

/// The answer of whichever is quicker.
///
/// # Errors
///
/// The error of whichever is quicker.
pub async fn quicker<T, E>(
    primary: impl Future<Output = Result<T, E>>,
    replica: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    select! {
        answer = primary => answer, // the first result, not the first success
        answer = replica => answer,
    }
}

/// The answer of whichever has one first.
pub async fn quicker_answer<T, E>(
    primary: impl Future<Output = Result<T, E>>,
    replica: impl Future<Output = Result<T, E>>,
) -> T {
    select! {
        Ok(answer) = primary => answer, // an error switches the branch off
        Ok(answer) = replica => answer, // and without an `else`, both off is a panic
    }
}
