//! # A line without a limit: `lines`, `read_line`
//!
//! A peer speaks in lines, so the server reads lines. How long one is, the peer decides: until it
//! sends a newline, all that it sends is held in memory, for each of its connections.
//!
//! ## You have it when
//! - the process is killed for its memory now and then, and the log has no word of why;
//! - memory grows with few clients and no requests: those that would be logged have not ended yet;
//! - a client in another encoding is cut off: `invalid utf-8 sequence of 1 bytes from index 1`.
//!
//! ## What it does to you
//! - A peer sends 32 MiB without a newline, and all of them are taken and held: no line has come,
//!   nothing is logged, no error is told. It could as well be 32 GiB.
//! - One byte that is no UTF-8 ends the connection, and the lines behind it are lost.
//!
//! ## Use instead
//! - `framed_lines`, with the most bytes that a line may have: a longer one is one error, its rest is
//!   dropped as it comes, and the next line is read. So is the one behind bytes that are no text.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Calls `handle` with each line.
///
/// # Errors
///
/// If the stream fails, or a line is not UTF-8.
pub async fn serve<R>(stream: R, mut handle: impl FnMut(&str)) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    let mut lines = BufReader::new(stream).lines();
    // Grows until the peer sends a newline. `read_line` and `read_until` do the same.
    while let Some(line) = lines.next_line().await? {
        handle(&line);
    }
    Ok(())
}
