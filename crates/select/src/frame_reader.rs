//! # Frame reader: read_buf into a kept buffer
//!
//! A protocol of your own sends frames: a header that says how long the payload is, then the payload.
//! Bytes come in pieces that have nothing to do with frames, and the task that reads them has a
//! timeout or other branches in its `select!`. Whatever had been read when the read was dropped must
//! be there for the next call, or every later frame is read from the wrong byte.
//!
//! ## Use it when
//! - you read frames of your own protocol in `select!`, under a timeout, or in a task that is aborted
//!   and goes on elsewhere;
//! - a frame's length can be told from its first bytes.
//!
//! ## Use something else when
//! - a length comes first and that is all: `framed_length`; tokio-util's codec is as safe to drop;
//! - frames are lines: `framed_lines`.
//!
//! ## Add to your project
//! ```console
//! cargo add bytes
//! cargo add thiserror
//! cargo add tokio --features io-util,rt
//! ```
//!
//! ## Watch out
//! - `read_exact` keeps what it has read inside its future: dropped half way, those bytes are gone, and
//!   what follows is taken for a header, as shown in `read_exact_in_select`.
//! - A length is what a stranger claims. Here it is compared with the limit before anything is
//!   allocated for it, and memory grows with the bytes that come, not with the claim.
//! - A timeout after which [`FrameReader::next`] is called again is no limit: a peer that sends a byte
//!   now and then holds one frame open for as long as it likes. Count from the last whole frame.
//! - A small frame that you keep keeps the whole piece of memory that it was read into. Copy it with
//!   `Bytes::copy_from_slice` if it is to stay.

use std::io;
use std::num::NonZeroUsize;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::coop::consume_budget;

/// How long a frame is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// Of the header.
    pub header: u64,
    /// Of what follows it.
    pub payload: u64,
}

/// Tells the lengths of a frame from its first bytes, all that have come so far: `None` if they are
/// too few. It may be called again and again with the same bytes and some more.
pub type ParseHeader = fn(&[u8]) -> Result<Option<Lengths>, Malformed>;

/// Why the first bytes of a frame cannot be a header.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// A frame, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The header's bytes.
    pub header: Bytes,
    /// What followed it.
    pub payload: Bytes,
}

/// Why there is no further frame. All but [`Io`](Self::Io) are final: where the next frame would begin
/// is not known, and each further call returns the same. Close the connection.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The input failed. What had come of the frame is kept for the next call.
    #[error("cannot read the next frame")]
    Io(#[from] io::Error),
    /// The input ended inside of a frame.
    #[error("the input ended after {got} bytes of {}; the sender was cut off", match expected {
        Some(expected) => format!("a frame of {expected}"),
        None => "a header".to_owned(),
    })]
    Truncated {
        /// Bytes of it that had come.
        got: usize,
        /// Bytes of the whole frame, header included; `None` if the header was not whole.
        expected: Option<usize>,
    },
    /// The frame, header included, is longer than the limit.
    #[error("a frame of {length} bytes, over {limit}: close the connection, or raise the limit")]
    TooLong {
        /// Bytes of the whole frame, as far as its header is known.
        length: u64,
        /// Bytes that a frame may have.
        limit: NonZeroUsize,
    },
    /// The header makes no sense.
    #[error("no frame begins like this: {0}")]
    Malformed(#[from] Malformed),
}

/// Reads frames from `R`.
#[derive(Debug)]
pub struct FrameReader<R> {
    input: R,
    parse: ParseHeader,
    limit: NonZeroUsize,
    /// What has come and was not returned: up to `limit` bytes.
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader of frames of up to `limit` bytes each, header included. It holds up to as many bytes
    /// that were read and not yet asked for.
    #[must_use]
    pub fn new(input: R, parse: ParseHeader, limit: NonZeroUsize) -> Self {
        Self {
            input,
            parse,
            limit,
            buffer: BytesMut::new(),
        }
    }

    /// Waits for the next frame. `None` if the input ends where a frame would begin.
    ///
    /// # Errors
    ///
    /// [`FrameError`], which says what can still be done.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has lost nothing: what came of a frame is kept, and the next call
    /// goes on from there.
    pub async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        // Frames that lie in the buffer are returned without a wait: a peer that sends many small
        // ones would keep this task from ever letting others run.
        consume_budget().await;
        loop {
            let lengths = self.lengths()?;
            if let Some((header, total)) = lengths
                && self.buffer.len() >= total
            {
                let mut payload = self.buffer.split_to(total).freeze();
                let header = payload.split_to(header);
                return Ok(Some(Frame { header, payload }));
            }
            // Never full here: a frame that is not whole is shorter than the limit.
            let room = self.limit.get() - self.buffer.len();
            if self.buffer.len() == self.buffer.capacity() {
                // Not all that the frame needs: that is the peer's word. This follows what it sent.
                self.buffer.reserve(room.min(8 * 1024));
            }
            let mut target = (&mut self.buffer).limit(room);
            // The only place where it waits, and what it reads is in `self` before it returns.
            if self.input.read_buf(&mut target).await? == 0 {
                return match self.buffer.len() {
                    0 => Ok(None),
                    got => Err(FrameError::Truncated {
                        got,
                        expected: lengths.map(|(_, total)| total),
                    }),
                };
            }
        }
    }

    /// The input, and what was read from it but not returned: a protocol that follows begins there.
    #[must_use]
    pub fn into_parts(self) -> (R, BytesMut) {
        (self.input, self.buffer)
    }

    /// Of the frame that the buffer begins with: its header's length and its own, within the limit.
    fn lengths(&self) -> Result<Option<(usize, usize)>, FrameError> {
        let too_long = |length| FrameError::TooLong {
            length,
            limit: self.limit,
        };
        let Some(lengths) = (self.parse)(&self.buffer)? else {
            // No room for another byte of a header that is not whole.
            return match self.buffer.len() {
                length if length < self.limit.get() => Ok(None),
                length => Err(too_long(length as u64 + 1)),
            };
        };
        let total = lengths.header.saturating_add(lengths.payload);
        match (usize::try_from(lengths.header), usize::try_from(total)) {
            (_, Ok(0)) => Err(Malformed("it has no bytes, and so no end".to_owned()).into()),
            (Ok(header), Ok(total)) if total <= self.limit.get() => Ok(Some((header, total))),
            _ => Err(too_long(total)),
        }
    }
}

/// A header of four bytes: the payload's length as a big-endian `u32`.
///
/// # Errors
///
/// None: every four bytes are a length.
pub fn u32_prefix(bytes: &[u8]) -> Result<Option<Lengths>, Malformed> {
    Ok(bytes.first_chunk().map(|length| Lengths {
        header: 4,
        payload: u32::from_be_bytes(*length).into(),
    }))
}
