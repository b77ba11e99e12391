//! # One read for one message: `stream.read(&mut buffer)`
//!
//! The other side writes a message, this side reads it: on the same machine, with short messages, one
//! `read` gives what one `write` wrote. TCP promises no such thing. It carries bytes, and a `read`
//! returns those that are there: a part of a message, or the end of one and the start of the next.
//!
//! ## You have it when
//! - a parser fails now and then, on large messages, far-away peers or a loaded network alone:
//!   `EOF while parsing a string`, `unexpected end of input`;
//! - answers belong to the question before, from some moment on;
//! - `\u{fffd}` stands in a text in place of some umlaut.
//!
//! ## What it does to you
//! - An answer that comes in two parts is cut after the first; the next question is answered with the
//!   second part, and so on, one behind for good.
//! - Of an answer of 5,000 bytes there are 1,024, the size of the buffer.
//! - Two messages that arrive together are one.
//! - The answer of a peer that dies at the question is `""`, and no error.
//!
//! `clippy::unused_io_amount` finds a `read` whose length is thrown away. Here it is used.
//!
//! ## Use instead
//! - `tcp_client` for a question and its whole answer, with limits in size and time;
//! - `framed_lines` or `framed_length` for messages on a stream: an end or a length marks each.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Asks the server, and returns its answer.
///
/// # Errors
///
/// If a write or a read fails.
#[expect(
    clippy::indexing_slicing,
    reason = "`read` returns no more than the length"
)]
pub async fn ask<S>(server: &mut S, question: &str) -> io::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    server.write_all(question.as_bytes()).await?;
    let mut buffer = [0; 1024];
    let length = server.read(&mut buffer).await?; // what is there, which need not be the answer
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
