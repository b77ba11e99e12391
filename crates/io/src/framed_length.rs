//! # Framed length: LengthDelimitedCodec with errors to tell apart
//!
//! Messages are bytes of any kind, each sent with its length before it. The peer may announce more
//! than it should, or close within a message. tokio-util's codec does the framing; this adds what it
//! leaves out: errors to match on, and an end within a frame that is never taken for a clean one.
//!
//! ## Use it when
//! - a message is binary or may hold line breaks: protobuf, bincode, compressed JSON;
//! - you define the protocol: four bytes of length, the highest first, then the message.
//!
//! ## Use something else when
//! - people type or read the messages: `framed_lines`;
//! - a message is too large for the memory: pass it on in parts as it comes, as `relay` does.
//!
//! ## Add to your project
//! ```console
//! cargo add bytes
//! cargo add thiserror
//! cargo add tokio
//! cargo add tokio-util --features codec
//! ```
//! `next` and `send` are methods of `StreamExt` and `SinkExt` in futures-util (feature `sink`).
//! Another header is another line of the builder in [`LengthCodec::new`].
//!
//! ## Watch out
//! - With `LengthDelimitedCodec` alone, a peer that closes right after the four bytes has ended
//!   cleanly, and the frame is missing without an error. Its limit, unless set, is 8 MiB.
//! - The four bytes alone make the buffer as large as the frame will be, before any of it has come.
//!   Have memory for connections × limit, or choose a lower one.
//! - A frame shares the buffer that it was read into: ten bytes kept for long keep all of it. Copy
//!   such frames: `Bytes::copy_from_slice`.
//! - A peer that falls silent keeps `next` waiting. `timeout(limit, frames.next())` bounds each frame
//!   as a whole, and loses nothing: a `next` that is dropped leaves what it read to the following one.
//! - A `send` that is dropped has lost its frame if it waited for room, and has left it for the next
//!   flush if it was writing. `feed`, then `flush`, tells the two apart: only `feed` can lose it.
//! - What is fed and not flushed is lost when the sink is dropped: end with `close`.

use std::io;
use std::num::NonZeroUsize;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Decoder, Encoder, Framed, FramedRead, FramedWrite, LengthDelimitedCodec};

/// The bytes of the length before each frame, the highest first.
const HEADER: usize = 4;

/// Frames of bytes, each after its length, none longer than a limit. An empty frame is one too.
#[derive(Debug, Clone)]
pub struct LengthCodec {
    inner: LengthDelimitedCodec,
    /// A header has been read, and its frame not yet.
    within: bool,
}

/// Why a frame was not read or not sent.
#[derive(Debug, Error)]
pub enum FrameError {
    /// It is over the limit. Not sent: nothing of it was written, and the sink takes the next frame.
    /// Not read: where the next begins cannot be trusted, so no frame follows.
    #[error(
        "a frame of {length} bytes is over the limit of {limit}; raise the limit on both sides, or check that the peer speaks this protocol"
    )]
    TooLong {
        /// The bytes of the frame; when reading, what the peer announced.
        length: u64,
        /// The bytes that a frame may have.
        limit: usize,
    },
    /// The stream ended within a frame, which is dropped.
    #[error(
        "the peer closed within a frame; what came of it is dropped, let the peer send it again"
    )]
    CutShort,
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads frames of at most `limit` bytes; a header cannot announce 4 GiB or more.
///
/// An error is the last item: after it the stream says `None`, and is to be dropped.
pub fn read_frames<R: AsyncRead>(reader: R, limit: NonZeroUsize) -> FramedRead<R, LengthCodec> {
    FramedRead::new(reader, LengthCodec::new(limit))
}

/// Writes frames of at most `limit` bytes, always less than 4 GiB. It holds 8 KiB and a frame at
/// most: then the next waits until all of it is written.
pub fn write_frames<W: AsyncWrite>(writer: W, limit: NonZeroUsize) -> FramedWrite<W, LengthCodec> {
    FramedWrite::new(writer, LengthCodec::new(limit))
}

/// Reads and writes frames over one stream: [`read_frames`] and [`write_frames`] in one.
pub fn framed_length<T: AsyncRead + AsyncWrite>(
    io: T,
    limit: NonZeroUsize,
) -> Framed<T, LengthCodec> {
    Framed::new(io, LengthCodec::new(limit))
}

impl LengthCodec {
    /// For frames of at most `limit` bytes, and less than 4 GiB in any case.
    #[must_use]
    pub fn new(limit: NonZeroUsize) -> Self {
        let inner = LengthDelimitedCodec::builder()
            .length_field_length(HEADER)
            .big_endian()
            .max_frame_length(limit.get())
            .new_codec();
        Self {
            inner,
            within: false,
        }
    }

    fn too_long(&self, length: u64) -> FrameError {
        let limit = self.inner.max_frame_length();
        FrameError::TooLong { length, limit }
    }
}

impl Decoder for LengthCodec {
    type Item = Bytes;
    type Error = FrameError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let before = src.len();
        let Ok(frame) = self.inner.decode(src) else {
            // With this header, its only error. The header is still there, so it comes every time.
            let header = src.iter().take(HEADER);
            return Err(self.too_long(header.fold(0, |sum, byte| sum << 8 | u64::from(*byte))));
        };
        // Without a frame, only a header can have been taken out.
        self.within = frame.is_none() && (self.within || src.len() < before);
        Ok(frame.map(BytesMut::freeze))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        match self.decode(src)? {
            None if self.within || !src.is_empty() => Err(FrameError::CutShort),
            frame => Ok(frame),
        }
    }
}

impl<T: AsRef<[u8]>> Encoder<T> for LengthCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: T, dst: &mut BytesMut) -> Result<(), FrameError> {
        let frame = frame.as_ref();
        if frame.len() > self.inner.max_frame_length() {
            return Err(self.too_long(u64::try_from(frame.len()).unwrap_or(u64::MAX)));
        }
        Ok(self.inner.encode(frame, dst)?)
    }
}
