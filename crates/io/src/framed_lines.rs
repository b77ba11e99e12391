//! # Framed lines: a codec with a length limit
//!
//! A peer sends text, a line at a time. It may send a line without an end, bytes that are no text,
//! or close in the middle of a word. Here one bad line is one error: the next lines are still read,
//! and what is held of a line never exceeds the limit.
//!
//! ## Use it when
//! - both sides speak lines: commands, log records, JSON one a line;
//! - the other side may be broken or hostile, and one bad line is no reason to lose the others.
//!
//! ## Use something else when
//! - a message may hold a line break, or is no text: `framed_length`;
//! - you read a file that you trust: `tokio::io::AsyncBufReadExt::lines` has no limit and no codec.
//!
//! ## Add to your project
//! ```console
//! cargo add bytes
//! cargo add thiserror
//! cargo add tokio
//! cargo add tokio-util --features codec
//! ```
//! `next` and `send` are methods of `StreamExt` and `SinkExt` in futures-util (feature `sink`).
//!
//! ## Watch out
//! - With tokio-util's own `LinesCodec`, a bad line is an `Err` of the stream, and a `None` follows
//!   it: the loop ends, and the good lines behind it are not read. `LinesCodec::new` has no limit.
//! - Nor has tokio's `lines`: a line without an end takes all memory, as shown in `endless_line`. And
//!   one `read` is no line: `one_read_one_message`.
//! - A peer killed in the middle of `delete 123` leaves `delete 12`. That is
//!   [`LineError::Unterminated`] and no line; take it for one where a file may lack its last newline.
//! - A peer that falls silent keeps `next` waiting. `timeout(limit, lines.next())` bounds each line
//!   as a whole, and loses nothing: a `next` that is dropped leaves what it read to the following one.
//! - A `send` that is dropped has lost its line if it waited for room, and has left it for the next
//!   flush if it was writing. `feed`, then `flush`, tells the two apart: only `feed` can lose it.
//! - What is fed and not flushed is lost when the sink is dropped: end with `close`.
//! - After an `io::Error` the stream says `None`; asked again, it would read on. Drop it.

use std::io::{self, BufRead};
use std::num::NonZeroUsize;
use std::string::FromUtf8Error;

use bytes::{Buf, BufMut, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Decoder, Encoder, Framed, FramedRead, FramedWrite};

/// Lines of UTF-8, each ended by `\n` or `\r\n`, none longer than a limit.
#[derive(Debug, Clone)]
pub struct LineCodec {
    limit: NonZeroUsize,
    begun: Vec<u8>,
    /// The line under way is too long, and told; its rest is dropped.
    skipping: bool,
}

/// What is wrong with one line. The lines that follow it are read all the same.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineError {
    /// It is longer than the limit: told as soon as it is passed. Go on, and the rest of the line is
    /// skipped; or drop the stream.
    #[error("a line over the limit of {limit} bytes is skipped; raise the limit, or send less")]
    TooLong {
        /// The bytes that a line may have.
        limit: usize,
    },
    /// It is not UTF-8, or its last character is cut off. `into_bytes` of what is inside gives it back.
    #[error("a line is not UTF-8, it may be binary or in another encoding: {0}")]
    NotUtf8(FromUtf8Error),
    /// The stream ended before the line did. Here is what came of it.
    #[error("the stream ended within a line, which may be incomplete; let the peer send it again")]
    Unterminated(String),
}

/// Why a line was not sent. But for `Io`, nothing of it was written, and the sink takes the next.
#[derive(Debug, Error)]
pub enum SendLineError {
    /// It is longer than the limit.
    #[error("a line of {length} bytes is over the limit of {limit}; send less, or raise the limit")]
    TooLong {
        /// The bytes of the line.
        length: usize,
        /// The bytes that a line may have.
        limit: usize,
    },
    /// It holds a `\n` or ends with a `\r`: the peer would read another line than was sent.
    #[error("the line holds a line break; escape it, or send the parts as lines of their own")]
    LineBreak,
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads lines of at most `limit` bytes, their ends not counted.
///
/// The outer error is the stream's, and the last item. The inner one is a line's, and others follow:
/// `try_next().await?` leaves only that to look at.
pub fn read_lines<R: AsyncRead>(reader: R, limit: NonZeroUsize) -> FramedRead<R, LineCodec> {
    FramedRead::new(reader, LineCodec::new(limit))
}

/// Writes lines of at most `limit` bytes, their ends not counted. It holds 8 KiB and a line at most:
/// then the next waits until all of it is written.
pub fn write_lines<W: AsyncWrite>(writer: W, limit: NonZeroUsize) -> FramedWrite<W, LineCodec> {
    FramedWrite::new(writer, LineCodec::new(limit))
}

/// Reads and writes lines over one stream: [`read_lines`] and [`write_lines`] in one.
pub fn framed_lines<T: AsyncRead + AsyncWrite>(io: T, limit: NonZeroUsize) -> Framed<T, LineCodec> {
    Framed::new(io, LineCodec::new(limit))
}

impl LineCodec {
    /// For lines of at most `limit` bytes, their ends not counted.
    #[must_use]
    pub fn new(limit: NonZeroUsize) -> Self {
        Self {
            limit,
            begun: Vec::new(),
            skipping: false,
        }
    }

    /// What has come of a line whose end has not. Nothing right after a line: what the peer sent
    /// behind it is in the stream's `read_buffer` then, for another protocol to go on with.
    #[must_use]
    pub fn begun(&self) -> &[u8] {
        &self.begun
    }

    /// Takes the next part of a line, and returns the line if that was the last.
    fn take(&mut self, part: &[u8], is_last: bool) -> Option<Result<String, LineError>> {
        if self.skipping {
            self.skipping = !is_last;
            return None;
        }
        let (limit, length) = (self.limit.get(), self.begun.len() + part.len());
        // A carriage return may belong to the line's end, which does not count.
        let last_byte = part.last().or(self.begun.last());
        if length - usize::from(last_byte == Some(&b'\r')) > limit {
            self.begun = Vec::new();
            self.skipping = !is_last;
            return Some(Err(LineError::TooLong { limit }));
        }
        if length > self.begun.capacity() {
            // Doubled, as a vector does by itself, but not past the limit.
            let doubled = self.begun.capacity().saturating_mul(2);
            let capacity = doubled.min(limit.saturating_add(1)).max(length);
            self.begun.reserve_exact(capacity - self.begun.len());
        }
        self.begun.extend_from_slice(part);
        is_last.then(|| self.finish())
    }

    fn finish(&mut self) -> Result<String, LineError> {
        let mut line = std::mem::take(&mut self.begun);
        line.pop_if(|byte| *byte == b'\r');
        String::from_utf8(line).map_err(LineError::NotUtf8)
    }
}

impl Decoder for LineCodec {
    type Item = Result<String, LineError>; // a decoder's `Error` would end the stream
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        while !src.is_empty() {
            // A slice as a reader finds the newline with the platform's memchr.
            let length = src.as_ref().skip_until(b'\n')?;
            let (part, _) = src.split_at(length);
            let last = part.strip_suffix(b"\n");
            let line = self.take(last.unwrap_or(part), last.is_some());
            src.advance(length);
            if line.is_some() {
                return Ok(line);
            }
        }
        Ok(None)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        if let Some(line) = self.decode(src)? {
            return Ok(Some(line));
        }
        self.skipping = false;
        let unterminated = |line| Err(LineError::Unterminated(line));
        Ok((!self.begun.is_empty()).then(|| self.finish().and_then(unterminated)))
    }
}

impl<T: AsRef<str>> Encoder<T> for LineCodec {
    type Error = SendLineError;

    fn encode(&mut self, line: T, dst: &mut BytesMut) -> Result<(), SendLineError> {
        let line = line.as_ref();
        let (length, limit) = (line.len(), self.limit.get());
        if length > limit {
            return Err(SendLineError::TooLong { length, limit });
        }
        if line.contains('\n') || line.ends_with('\r') {
            return Err(SendLineError::LineBreak);
        }
        dst.reserve(length + 1);
        dst.put_slice(line.as_bytes());
        dst.put_u8(b'\n');
        Ok(())
    }
}
