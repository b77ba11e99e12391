//! # read_exact in select!: a message that is read from its middle
//!
//! A connection is read in a `select!` that also sends a keep-alive. The message comes in two
//! pieces with a tick in between; what was read of it is dropped with the branch that lost. The
//! next read begins in the middle of a message and takes text for a length.
//!
//! ## You have it when
//! - a connection that was fine for hours ends with `early eof`, an absurd length or a parse error,
//!   and the peer's log shows nothing wrong;
//! - it never happens on one machine, where a message comes in one piece;
//! - `read_exact`, `read_u32`, `read_line` or `read_to_end` stands in a branch of `select!` or in a
//!   `timeout` after which one goes on reading.
//!
//! ## What it does to you
//! - One tick in the middle of a message: it never comes, nor does any behind it. So at each of the
//!   11 places where a message of 12 bytes can be cut in two.
//! - `hell`, taken for a length, is 1,751,477,356 bytes: without a limit, that is the next `vec!`.
//! - A `String` outside of the loop does not help: `read_line` takes it into its future and leaves
//!   an empty one until the line is whole. `PING` after a tick is `NG`.
//!
//! ## Use instead
//! - `frame_reader`, which keeps what it has read in itself, in any branch of any `select!`;
//! - `framed_lines` and `framed_length` for lines and for a length with its bytes.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt};
use tokio::time::Interval;

/// Hands each message to `handle`, and calls `keep_alive` at each tick.
///
/// # Errors
///
/// What reading says, or that a length is above the limit.
pub async fn read_messages(
    mut stream: impl AsyncRead + Unpin,
    ticks: &mut Interval,
    mut handle: impl FnMut(Vec<u8>),
    mut keep_alive: impl FnMut(),
) -> io::Result<()> {
    loop {
        tokio::select! {
            message = read_message(&mut stream) => handle(message?),
            _ = ticks.tick() => keep_alive(), // drops `read_message`, and the bytes that it had
        }
    }
}

async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    if length > 1 << 20 {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// The same for lines. The line is kept outside of the loop, so that a tick cannot lose it.
pub async fn read_lines(
    mut stream: impl AsyncBufRead + Unpin,
    ticks: &mut Interval,
    mut handle: impl FnMut(String),
) {
    let mut line = String::new();
    loop {
        tokio::select! {
            read = stream.read_line(&mut line) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => handle(std::mem::take(&mut line)),
            },
            _ = ticks.tick() => {} // it can: what had come of the line was in the future
        }
    }
}
