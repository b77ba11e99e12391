//! # A proxy of two copies: `select!` or `try_join!` around `tokio::io::copy`
//!
//! Two streams, two copies, one for each direction: a proxy in five lines. It works for clients that
//! close once they have got their answer. Others say first that they have sent all: they shut down
//! their write side, and then read the answer.
//!
//! ## You have it when
//! - through the proxy some clients get empty or cut answers, and without it they get them whole;
//! - nobody has an error: the client reads a clean end, at most the server logs a broken pipe;
//! - or the number of open connections only grows, and both ends of each wait for the other.
//!
//! ## What it does to you
//! - `select!`: the client's half-close ends both copies. Of an answer of a million bytes the client
//!   gets none, and a clean end of stream.
//! - `try_join!`: `copy` passes bytes on, and not the end. The server waits for the rest of the
//!   request, the client for the answer, and the proxy for both: an hour later, and for ever.
//!
//! ## Use instead
//! - `relay`: it passes each end on, waits for the other direction, and ends pairs that are silent;
//! - `tokio::io::copy_bidirectional` alone does the first two.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, copy, split};
use tokio::{select, try_join};

/// Copies both ways until one side has finished.
///
/// # Errors
///
/// That of the copy that ended first.
pub async fn until_one_ends<A, B>(client: A, server: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = split(server);
    select! { // the copy that is not done is dropped, and its bytes with it
        copied = copy(&mut from_client, &mut to_server) => copied.map(drop),
        copied = copy(&mut from_server, &mut to_client) => copied.map(drop),
    }
}

/// Copies both ways until both sides have finished.
///
/// # Errors
///
/// That of the first copy that fails.
pub async fn until_both_end<A, B>(client: A, server: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = split(server);
    let there = copy(&mut from_client, &mut to_server); // done, it does not shut `to_server` down
    let back = copy(&mut from_server, &mut to_client);
    try_join!(there, back).map(drop)
}
