//! cargo +nightly fuzz run framed_length
//!
//! The first two bytes choose the limit and the size of the pieces; the rest is what a peer sends.
//! In pieces or at once, the frames and the end are the same; nothing panics, and no more is
//! allocated than the limit explains.
#![no_main]

use std::num::NonZeroUsize;

use bytes::{Bytes, BytesMut};
use io::framed_length::LengthCodec;
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::{Decoder, Encoder};

/// The frames, and the error that ended them.
fn decode<'a>(
    limit: NonZeroUsize,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Bytes>, Option<String>) {
    let mut codec = LengthCodec::new(limit);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
        assert!(buffer.len() < limit.get().max(4));
        assert!(buffer.capacity() <= 2 * (limit.get() + piece.len().max(256) + 4));
    }
    loop {
        match codec.decode_eof(&mut buffer) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error.to_string())),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(([limit, piece], bytes)) = data.split_first_chunk() else {
        return;
    };
    let limit = NonZeroUsize::MIN.saturating_add(usize::from(*limit));
    let (frames, end) = decode(limit, bytes.chunks(1 + usize::from(*piece)));
    let at_once = decode(limit, std::iter::once(bytes));
    assert_eq!((&frames, &end), (&at_once.0, &at_once.1));

    // What was read can be sent, and gives the bytes that it came from.
    let mut sent = BytesMut::new();
    for frame in &frames {
        let mut codec = LengthCodec::new(limit);
        codec.encode(frame, &mut sent).expect("within the limit");
    }
    assert!(bytes.starts_with(&sent) && (end.is_some() || bytes.len() == sent.len()));
});
