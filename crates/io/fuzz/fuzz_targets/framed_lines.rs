//! cargo +nightly fuzz run framed_lines
//!
//! The first two bytes choose the limit and the size of the pieces; the rest is what a peer sends.
//! In pieces or at once, the lines are the same; nothing panics, and no more than the limit is held.
#![no_main]

use std::num::NonZeroUsize;

use bytes::BytesMut;
use io::framed_lines::{LineCodec, LineError};
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::{Decoder, Encoder};

type Line = Result<String, LineError>;

fn decode<'a>(limit: NonZeroUsize, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Line> {
    let mut codec = LineCodec::new(limit);
    let mut buffer = BytesMut::new();
    let mut lines = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(line) = codec.decode(&mut buffer).expect("only a stream fails") {
            lines.push(line);
        }
        assert!(buffer.is_empty() && codec.begun().len() <= limit.get() + 1);
    }
    while let Some(line) = codec.decode_eof(&mut buffer).expect("only a stream fails") {
        lines.push(line);
    }
    lines
}

fuzz_target!(|data: &[u8]| {
    let Some(([limit, piece], bytes)) = data.split_first_chunk() else {
        return;
    };
    let limit = NonZeroUsize::MIN.saturating_add(usize::from(*limit));
    let lines = decode(limit, bytes.chunks(1 + usize::from(*piece)));
    assert_eq!(lines, decode(limit, std::iter::once(bytes)));

    // What was read can be sent, and is read again as it was, but for a carriage return at the end.
    for line in lines.into_iter().flatten() {
        let mut buffer = BytesMut::new();
        match LineCodec::new(limit).encode(&line, &mut buffer) {
            Ok(()) => assert_eq!(decode(limit, std::iter::once(&buffer[..])), [Ok(line)]),
            Err(_) => assert!(line.ends_with('\r') && buffer.is_empty()),
        }
    }
});
