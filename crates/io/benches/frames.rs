//! The codecs beside tokio-util's own and beside loops written by hand over a buffer, which know no
//! limit. Each row reads, or writes and reads, 1 MiB of frames in memory; compare the medians.

use std::io;
use std::num::NonZeroUsize;

use ::io::framed_length::LengthCodec;
use ::io::framed_lines::LineCodec;
use bytes::{Buf, Bytes, BytesMut};
use divan::counter::BytesCount;
use divan::{Bencher, black_box_drop};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio_util::codec::{
    Decoder, Encoder, FramedRead, FramedWrite, LengthDelimitedCodec, LinesCodec,
};

/// The bytes of a frame, without its header or newline.
const SIZES: [usize; 2] = [64, 64 * 1024];
const TOTAL: usize = 1024 * 1024;
const BUFFER: usize = 8 * 1024;
const LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(64 * 1024);

fn main() {
    divan::main();
}

#[expect(
    clippy::expect_used,
    reason = "a benchmark without its runtime has nothing to do"
)]
fn run<T>(bencher: Bencher<'_, '_>, work: impl AsyncFn() -> T) {
    let runtime: Runtime = Builder::new_current_thread().build().expect("a runtime");
    let bencher = bencher.counter(BytesCount::new(TOTAL));
    bencher.bench_local(|| runtime.block_on(work()));
}

fn lines(size: usize) -> Vec<u8> {
    let line = [vec![b'x'; size], vec![b'\n']].concat();
    line.repeat(TOTAL / size)
}

fn frames(size: usize) -> Vec<u8> {
    let header = u32::try_from(size).unwrap_or_default().to_be_bytes();
    [&header, &vec![7; size][..]].concat().repeat(TOTAL / size)
}

async fn read<D: Decoder>(bytes: &[u8], codec: D) {
    let mut framed = FramedRead::new(bytes, codec);
    while let Some(Ok(frame)) = framed.next().await {
        black_box_drop(frame);
    }
}

async fn write<T: Clone, E: Encoder<T>>(frame: T, size: usize, codec: E) -> Vec<u8> {
    let mut framed = FramedWrite::new(Vec::new(), codec);
    for _ in 0..TOTAL / size {
        framed.feed(frame.clone()).await.ok();
    }
    framed.flush().await.ok();
    framed.into_parts().io
}

/// Reads until a newline is there, takes the line out, and goes on.
async fn read_lines_by_hand(mut bytes: &[u8]) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(BUFFER);
    let mut searched = 0;
    loop {
        let unread = buffer.get(searched..).unwrap_or_default();
        if let Some(at) = unread.iter().position(|byte| *byte == b'\n') {
            let mut line = buffer.split_to(searched + at);
            buffer.advance(1);
            searched = 0;
            black_box_drop(String::from_utf8(Vec::from(line.split())));
            continue;
        }
        searched = buffer.len();
        buffer.reserve(BUFFER);
        if bytes.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Reads until the frame that the header announces is there, takes it out, and goes on.
async fn read_frames_by_hand(mut bytes: &[u8]) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(BUFFER);
    loop {
        if let Some(header) = buffer.first_chunk() {
            let length = 4 + u32::from_be_bytes(*header) as usize;
            if buffer.len() >= length {
                let mut frame = buffer.split_to(length);
                frame.advance(4);
                black_box_drop(frame.freeze());
                continue;
            }
            buffer.reserve(length);
        }
        buffer.reserve(BUFFER);
        if bytes.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

async fn write_by_hand(size: usize, part: impl Fn(&mut Vec<u8>)) -> io::Result<Vec<u8>> {
    let (mut written, mut buffer) = (Vec::new(), Vec::new());
    for _ in 0..TOTAL / size {
        part(&mut buffer);
        if buffer.len() >= BUFFER {
            written.write_all(&buffer).await?;
            buffer.clear();
        }
    }
    written.write_all(&buffer).await?;
    Ok(written)
}

mod read_lines {
    use super::*;

    #[divan::bench(args = SIZES)]
    fn recipe(bencher: Bencher<'_, '_>, size: usize) {
        let bytes = lines(size);
        run(bencher, || read(&bytes, LineCodec::new(LIMIT)));
    }

    #[divan::bench(args = SIZES)]
    fn tokio_util(bencher: Bencher<'_, '_>, size: usize) {
        let (bytes, limit) = (lines(size), LIMIT.get());
        run(bencher, || {
            read(&bytes, LinesCodec::new_with_max_length(limit))
        });
    }

    #[divan::bench(args = SIZES)]
    fn by_hand(bencher: Bencher<'_, '_>, size: usize) {
        let bytes = lines(size);
        run(bencher, || read_lines_by_hand(&bytes));
    }
}

mod write_and_read_lines {
    use super::*;

    #[divan::bench(args = SIZES)]
    fn recipe(bencher: Bencher<'_, '_>, size: usize) {
        let line = "x".repeat(size);
        run(bencher, async || {
            let bytes = write(line.as_str(), size, LineCodec::new(LIMIT)).await;
            read(&bytes, LineCodec::new(LIMIT)).await;
        });
    }

    #[divan::bench(args = SIZES)]
    fn by_hand(bencher: Bencher<'_, '_>, size: usize) {
        let line = "x".repeat(size);
        run(bencher, async || {
            let part = |buffer: &mut Vec<u8>| {
                buffer.extend_from_slice(line.as_bytes());
                buffer.push(b'\n');
            };
            read_lines_by_hand(&write_by_hand(size, part).await?).await
        });
    }
}

mod read_frames {
    use super::*;

    #[divan::bench(args = SIZES)]
    fn recipe(bencher: Bencher<'_, '_>, size: usize) {
        let bytes = frames(size);
        run(bencher, || read(&bytes, LengthCodec::new(LIMIT)));
    }

    #[divan::bench(args = SIZES)]
    fn tokio_util(bencher: Bencher<'_, '_>, size: usize) {
        let bytes = frames(size);
        run(bencher, || read(&bytes, LengthDelimitedCodec::new()));
    }

    #[divan::bench(args = SIZES)]
    fn by_hand(bencher: Bencher<'_, '_>, size: usize) {
        let bytes = frames(size);
        run(bencher, || read_frames_by_hand(&bytes));
    }
}

mod write_and_read_frames {
    use super::*;

    #[divan::bench(args = SIZES)]
    fn recipe(bencher: Bencher<'_, '_>, size: usize) {
        let frame = Bytes::from(vec![7; size]);
        run(bencher, async || {
            let bytes = write(frame.clone(), size, LengthCodec::new(LIMIT)).await;
            read(&bytes, LengthCodec::new(LIMIT)).await;
        });
    }

    #[divan::bench(args = SIZES)]
    fn by_hand(bencher: Bencher<'_, '_>, size: usize) {
        let frame = vec![7; size];
        let header = u32::try_from(size).unwrap_or_default().to_be_bytes();
        run(bencher, async || {
            let part = |buffer: &mut Vec<u8>| {
                buffer.extend_from_slice(&header);
                buffer.extend_from_slice(&frame);
            };
            read_frames_by_hand(&write_by_hand(size, part).await?).await
        });
    }
}
