//! # Accepted and dropped: `break` at the stop, and the end of `main`
//!
//! The server hears the stop, leaves its loop and returns, and so does `main`. The loop has spawned a
//! task for each connection, and these are still at work. Nobody waits for them: the runtime is
//! dropped with `main`, and drops every task at the await where it stands.
//!
//! ## You have it when
//! - each deployment costs some requests, although SIGTERM is heard and the log says `stopped`;
//! - clients see `connection closed before message completed` (hyper's) or
//!   `Connection reset by peer (os error 104)`, and repeat what had been done half way;
//! - it goes well on a quiet system, and under load it does not.
//!
//! ## What it does to you
//! - Of five requests that were accepted and read, none is answered: each client reads the end of the
//!   stream in place of its answer.
//! - What follows an await in a task is not run: the write that was to come, the commit, the log.
//!
//! ## Use instead
//! - `graceful_shutdown`: it owns what was accepted, waits for it up to a deadline, aborts the rest,
//!   and reports each;
//! - `tcp_server`, which has all this built in.

use std::io;
use std::pin::pin;

use tokio::net::{TcpListener, TcpStream};
use tokio::select;

/// Serves clients, each in a task of its own, until `stop` completes.
///
/// # Errors
///
/// If a client cannot be accepted.
pub async fn serve<F>(
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    handle: impl Fn(TcpStream) -> F,
) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut stop = pin!(stop);
    loop {
        select! {
            () = &mut stop => break,
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                tokio::spawn(handle(stream)); // and its handle is dropped: nobody can wait for it
            }
        }
    }
    Ok(()) // while they work
}
