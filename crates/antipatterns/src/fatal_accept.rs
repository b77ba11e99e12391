//! # An accept that fails: `listener.accept().await?`
//!
//! The server's loop accepts, spawns and accepts again. The question mark is there since `accept`
//! returns a `Result`, and nobody has ever seen it fail. It does on the busiest day: each connection
//! is a file descriptor, and the process may have so many.
//!
//! ## You have it when
//! - the last line of the log is `Too many open files (os error 24)`, and the process ended;
//! - or it lives, health check and all, and every client gets `Connection refused (os error 111)`;
//! - the server goes down under load, and again as soon as it is back, since all clients return.
//!
//! ## What it does to you
//! - With room for twenty descriptors and thirty clients, one failed accept ends the server: twenty
//!   are answered, ten are reset, and whoever comes later is refused, although by then all of the
//!   twenty have left and every descriptor is free.
//! - `continue` in place of the question mark is no cure: the descriptors stay used up and the client
//!   stays in the queue, so that accept fails at once again, a thousand times without one await that
//!   waits.
//!
//! ## Use instead
//! - `tcp_server`: it logs a failed accept, tries again after a pause that grows, and accepts no more
//!   than a number of connections in the first place.

use std::io;

use tokio::net::{TcpListener, TcpStream};

/// Serves clients, each in a task of its own.
///
/// # Errors
///
/// Of the first accept that fails.
pub async fn serve<F>(listener: TcpListener, handle: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?; // the error of one is the end for all
        tokio::spawn(handle(stream));
    }
}
