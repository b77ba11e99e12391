//! # Half a transaction: `BEGIN` by hand, on a connection of a pool
//!
//! A transfer takes from one account, asks for approval, gives to the other, and commits. Its caller
//! has a time limit, or the client hangs up: the future is dropped half way. No `COMMIT` is sent, and
//! no `ROLLBACK` either. The connection goes back to the pool as it is, in the transaction.
//!
//! ## You have it when
//! - money, stock or points are missing, and it was on days with time-outs;
//! - writes that returned `Ok` are not in the database;
//! - requests fail that never had a transaction, or never an error:
//!   `current transaction is aborted, commands ignored until end of transaction block`;
//! - the server logs `there is already a transaction in progress`, and `pg_stat_activity` shows
//!   `idle in transaction`.
//!
//! ## What it does to you
//! - A transfer of 30 is dropped before it gives. The next one, of 5, is carried out well, and its
//!   `COMMIT` commits the half of the other as well: of 200 there are 170 left.
//! - A hundred writes of the next user return `Ok`. Nobody else sees one of them, and when the
//!   connection ends they are gone.
//! - A transfer that fails leaves by `?`: whatever comes next on that connection is refused.
//!
//! ## Use instead
//! - `transactions`: the rollback is sent by the drop, whether by an error, a panic or a time limit;
//! - `recycling`, for what else a session leaves behind. Deadpool's default takes it back as it is.

use tokio_postgres::{Client, Error};

/// Moves money from one account to another, if it is approved of.
///
/// # Errors
///
/// If a statement fails.
pub async fn transfer(
    client: &Client,
    (from, to): (&str, &str),
    amount: i32,
    approval: impl Future<Output = ()>,
) -> Result<(), Error> {
    client.batch_execute("BEGIN").await?;
    let take = "UPDATE accounts SET amount = amount - $1 WHERE name = $2";
    client.execute(take, &[&amount, &from]).await?;
    approval.await; // dropped here, or returned above or below, it ends without the last line
    let give = "UPDATE accounts SET amount = amount + $1 WHERE name = $2";
    client.execute(give, &[&amount, &to]).await?;
    client.batch_execute("COMMIT").await
}
