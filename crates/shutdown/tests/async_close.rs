//! What closing a writer promises, and what is lost without it.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::RefCell;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use shutdown::async_close::{Cause, MustClose};
use testing::capture_events::Capture;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const NOTHING: [&str; 0] = [];
const MS: Duration = Duration::from_millis(1);

/// A buffered writer into a pipe of `size` bytes, and the pipe's other end.
fn buffered(size: usize) -> (MustClose<BufWriter<DuplexStream>>, DuplexStream) {
    let (writer, reader) = duplex(size);
    (MustClose::new("pipe", BufWriter::new(writer)), reader)
}

#[tokio::test]
async fn every_byte_is_in_the_file_when_close_returns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let file = tokio::fs::File::create(&path).await.unwrap();
    let mut writer = MustClose::new("log", BufWriter::new(file));
    for number in 0..10_000 {
        let line = format!("{number}\n");
        writer.write_all(line.as_bytes()).await.unwrap();
    }
    assert_eq!(
        events(async { writer.close(LIMIT).await.map(drop) }).await,
        NOTHING
    );
    let expected: String = (0..10_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
}

#[tokio::test]
async fn a_socket_is_flushed_and_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap());
    let (socket, accepted) = tokio::join!(socket, listener.accept());
    let mut peer = accepted.unwrap().0;
    let mut writer = MustClose::new("socket", BufWriter::new(socket.unwrap()));
    writer.write_all(b"goodbye").await.unwrap();
    let _kept_open = writer.close(LIMIT).await.unwrap();
    let mut read = String::new();
    timeout(LIMIT, peer.read_to_string(&mut read))
        .await
        .expect("the end of the stream")
        .unwrap();
    assert_eq!(read, "goodbye");
}

#[tokio::test(start_paused = true)]
async fn bytes_count_as_unflushed_until_a_flush_succeeds() {
    let (mut writer, mut reader) = buffered(16);
    writer.write_all(b"0123456789").await.unwrap();
    let parts = [std::io::IoSlice::new(b"abc")];
    assert_eq!(writer.write_vectored(&parts).await.unwrap(), 3);
    assert_eq!(writer.unflushed(), 13);
    writer.flush().await.unwrap();
    assert_eq!(writer.unflushed(), 0);
    writer.write_all(b"0123456789").await.unwrap();
    timeout(MS, writer.flush()).await.unwrap_err(); // the pipe is full
    assert_eq!(writer.unflushed(), 10);
    reader.read_exact(&mut [0; 13]).await.unwrap();
    writer.close(LIMIT).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_writer_dropped_without_close_is_told_with_its_name_and_what_it_held() {
    let (mut writer, _reader) = buffered(16);
    writer.write_all(b"0123456789").await.unwrap();
    let told = events(async { drop(writer) }).await;
    assert_eq!(
        told,
        ["ERROR dropped without being closed name=pipe unflushed=10"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_early_return_a_panic_and_an_abort_are_told_too() {
    let (writer, _reader) = buffered(16);
    let told = events(async {
        let failing = async move {
            let _writer = writer;
            Err::<(), _>(std::io::Error::other("no"))?;
            Ok::<_, std::io::Error>(())
        };
        failing.await.unwrap_err();
    });
    assert_eq!(told.await.len(), 1, "an early return");

    let (writer, _reader) = buffered(16);
    let told = events(async {
        let panicking = AssertUnwindSafe(|| {
            let _writer = writer;
            panic!("on purpose");
        });
        catch_unwind(panicking).unwrap_err();
    });
    assert_eq!(told.await.len(), 1, "a panic");

    let (writer, _reader) = buffered(16);
    let told = events(async {
        let task = tokio::spawn(async move {
            let _writer = writer;
            pending::<()>().await;
        });
        sleep(MS).await;
        task.abort();
        task.await.unwrap_err();
    });
    assert_eq!(told.await.len(), 1, "an abort");
}

#[tokio::test]
async fn it_takes_several_slices_at_once_if_its_writer_does() {
    let takes_several = MustClose::new("a vector", Vec::new());
    assert!(takes_several.is_write_vectored());
    let takes_one = MustClose::new("as most", OneSlice);
    assert!(!takes_one.is_write_vectored());
}

/// A writer as most are, which does not say that it takes several.
struct OneSlice;

impl AsyncWrite for OneSlice {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn closed_in_place_twice_is_closed_and_written_to_again_is_not() {
    let (mut writer, mut reader) = buffered(16);
    writer.write_all(b"abc").await.unwrap();
    writer.shutdown().await.unwrap();
    writer.shutdown().await.unwrap();
    assert_eq!(events(async { drop(writer) }).await, NOTHING);
    let mut read = String::new();
    reader.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "abc");

    let mut buffer = MustClose::new("log", Vec::new());
    buffer.shutdown().await.unwrap();
    buffer.write_all(b"abc").await.unwrap();
    assert_eq!(events(async { drop(buffer) }).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_costs_the_limit_and_is_told() {
    for limit in [Duration::ZERO, 250 * MS] {
        let started = Instant::now();
        let (mut writer, _reader) = buffered(4);
        writer.write_all(b"0123456789").await.unwrap();
        let mut error = None;
        let told = events(async { error = writer.close(limit).await.err() });
        assert_eq!(told.await, NOTHING, "the error tells");
        let error = error.unwrap();
        assert_eq!(started.elapsed(), limit);
        assert!(matches!(error.cause, Cause::TimedOut(after) if after == limit));
        assert_eq!((error.name.as_str(), error.unflushed), ("pipe", 10));
        let message = format!(
            "pipe could not be closed, 10 bytes may not have arrived: not done within {limit:?}"
        );
        assert_eq!(error.to_string(), message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_is_an_error_of_close() {
    let (mut writer, reader) = buffered(4);
    writer.write_all(b"0123456789").await.unwrap();
    drop(reader);
    let error = writer.close(Duration::MAX).await.unwrap_err();
    assert_eq!(error.unflushed, 10);
    assert!(matches!(error.cause, Cause::Io(error) if error.kind() == ErrorKind::BrokenPipe));
}

#[cfg(target_os = "linux")]
async fn full_disk() -> tokio::fs::File {
    let mut options = tokio::fs::File::options();
    options.write(true).open("/dev/full").await.unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_an_error_of_close() {
    let mut writer = MustClose::new("log", full_disk().await);
    writer.write_all(b"0123456789").await.unwrap();
    let error = writer.close(LIMIT).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Io(error) if error.kind() == ErrorKind::StorageFull));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_dropped_is_told() {
    type State = Option<MustClose<BufWriter<DuplexStream>>>;
    let setup = async || {
        let (mut writer, mut reader) = buffered(4);
        tokio::spawn(async move { reader.read_to_end(&mut Vec::new()).await });
        writer.write_all(b"0123456789").await.unwrap();
        Some(writer)
    };
    let told = RefCell::new(0);
    let operation = async |writer: &mut State| {
        writer.take().unwrap().close(LIMIT).await.unwrap();
    };
    let check = async |_, outcome| {
        if let Outcome::Dropped(_) = outcome {
            *told.borrow_mut() += 1;
        }
    };
    let mut points = 0;
    let events = events(async {
        points = every_await_point(LIMIT, setup, operation, check)
            .await
            .unwrap();
    });
    let events = events.await.len();
    assert!(points >= 3, "{points}");
    assert_eq!(
        events,
        told.into_inner(),
        "one event for each dropped close"
    );
}

#[tokio::test]
async fn harm_a_dropped_buf_writer_loses_all_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let file = tokio::fs::File::create(&path).await.unwrap();
    let mut writer = BufWriter::new(file);
    writer.write_all(&[b'x'; 8_000]).await.unwrap();
    drop(writer);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn harm_a_file_reports_a_failed_write_only_with_the_next_operation() {
    let mut file = full_disk().await;
    file.write_all(b"lost").await.unwrap();
    let error = file.flush().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}

#[tokio::test]
async fn harm_a_drop_that_blocks_panics_on_a_worker() {
    struct Blocks;
    impl Drop for Blocks {
        fn drop(&mut self) {
            tokio::runtime::Handle::current().block_on(async {});
        }
    }
    let panic = tokio::spawn(async { drop(Blocks) }).await.unwrap_err();
    let panic = panic.into_panic();
    let message = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
    assert!(
        message
            .unwrap()
            .contains("Cannot start a runtime from within a runtime"),
    );
}

#[tokio::test(start_paused = true)]
async fn harm_a_forgotten_writer_tells_nothing() {
    let (mut writer, _reader) = buffered(16);
    writer.write_all(b"0123456789").await.unwrap();
    assert_eq!(events(async { std::mem::forget(writer) }).await, NOTHING);
}

/// The events while `work` runs, on the thread of the test.
async fn events(work: impl Future) -> Vec<String> {
    let capture = Capture::of("shutdown");
    let _guard = capture.start();
    work.await;
    capture.lines()
}
