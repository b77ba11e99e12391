//! What the page says can be dropped in `select!`, call by call: a test for each.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::collections::BTreeSet;
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, unfold};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{
    AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter, DuplexStream, copy,
    copy_bidirectional, duplex,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::Command;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{
    Barrier, Mutex, Notify, OnceCell, RwLock, Semaphore, broadcast, mpsc, oneshot, watch,
};
use tokio::task::{JoinSet, spawn_blocking, yield_now};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use tokio::{fs, select};
use tokio_stream::StreamMap;
use tokio_util::codec::{Framed, LinesCodec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tokio_util::time::DelayQueue;

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

// -------------------------------------------------------------------- the table against the tests

/// The tests that the page's table asks for: for each call, its name and what is said of it.
fn promised() -> Vec<String> {
    let page = include_str!("../src/lib.rs");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `"))
        .filter_map(|row| row.split_once(" | "));
    rows.flat_map(|(calls, rest)| {
        let claim = match rest.split(" |").next().unwrap() {
            "yes" => "is_safe",
            "no" => "is_not_safe",
            "its place" => "loses_its_place",
            "runs on" => "runs_on",
            other => panic!("`{other}` is not one of the table's words"),
        };
        let names = calls
            .split(", ")
            .map(|call| snake_case(call.trim_matches('`')));
        names.map(move |name| format!("{name}_{claim}"))
    })
    .collect()
}

/// `&mut oneshot::Receiver` becomes `mut_oneshot_receiver`.
fn snake_case(call: &str) -> String {
    let mut name = String::new();
    for letter in call.trim_start_matches('&').chars() {
        match letter {
            ':' | ' ' if name.ends_with('_') => {}
            ':' | ' ' => name.push('_'),
            _ if letter.is_uppercase() && !name.is_empty() && !name.ends_with('_') => {
                name.push('_');
                name.push(letter.to_ascii_lowercase());
            }
            _ => name.push(letter.to_ascii_lowercase()),
        }
    }
    name
}

/// The names of this file's tests.
fn tests() -> BTreeSet<String> {
    let mut lines = include_str!("page.rs").lines().peekable();
    let mut names = BTreeSet::new();
    while let Some(line) = lines.next() {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            let function = lines.next().unwrap();
            let name = function.split("fn ").nth(1).unwrap().split('(').next();
            names.insert(name.unwrap().to_owned());
        }
    }
    names
}

#[test]
fn every_call_in_the_table_has_a_test_and_every_test_its_call() {
    let promised = promised();
    let mut tests = tests();
    tests.remove("every_call_in_the_table_has_a_test_and_every_test_its_call");
    let unique: BTreeSet<String> = promised.iter().cloned().collect();
    assert_eq!(unique.len(), promised.len(), "a call is there twice");
    assert!(
        unique.len() >= 60,
        "{}: the table was not found",
        unique.len()
    );
    let untested: Vec<_> = unique.difference(&tests).collect();
    let unsaid: Vec<_> = tests.difference(&unique).collect();
    assert!(
        untested.is_empty() && unsaid.is_empty(),
        "write these tests: {untested:#?}\nput these into the table: {unsaid:#?}"
    );
}

// ------------------------------------------------------------------------------- ways to be dropped

/// Polls it once, which must not be enough, and drops it.
#[track_caller]
fn drop_suspended(future: impl Future) {
    let mut future = pin!(future);
    assert!(future.as_mut().now_or_never().is_none(), "it does not wait");
}

/// Polls it once, lets `event` happen, for which it waits, and drops it without polling it again.
async fn drop_woken(future: impl Future, event: impl Future) {
    let mut future = pin!(future);
    assert!(future.as_mut().now_or_never().is_none(), "it does not wait");
    event.await;
    yield_now().await;
}

/// A call that waits in a line. `free` lets one of it through, and `other` stands in the same line.
fn assert_loses_only_its_place<A: Future, B: Future>(
    call: impl Fn() -> A,
    other: impl Fn() -> B,
    free: impl FnOnce(),
) {
    let waits = |future: Pin<&mut dyn Future<Output = ()>>| future.now_or_never().is_none();
    let mut first = Box::pin(call().map(drop));
    assert!(waits(first.as_mut()));
    let mut second = Box::pin(other().map(drop));
    assert!(waits(second.as_mut()));
    drop(first);
    let mut again = Box::pin(call().map(drop));
    assert!(waits(again.as_mut()));
    free();
    assert!(waits(again.as_mut()), "it has kept its place");
    drop(second); // it was given what it waited for, and did not take it
    assert!(!waits(again.as_mut()), "what was given is lost");
}

/// A branch that is ready each second, for 60 of them, beside this one; how often this one was ready.
async fn beside_a_heartbeat<F: Future>(mut branch: impl FnMut() -> F) -> usize {
    let mut heartbeat = interval(SECOND);
    let (mut beats, mut ended) = (0, 0);
    while beats < 60 {
        select! {
            _ = heartbeat.tick() => beats += 1,
            _ = branch() => ended += 1,
        }
    }
    ended
}

/// Sends itself a signal, by the shell: `kill` is one of its own commands.
async fn send_to_itself(name: &str) {
    let line = format!("kill -{name} {}", std::process::id());
    let status = Command::new("sh").args(["-c", &line]).status().await;
    assert!(status.unwrap().success());
}

/// Reads up to the end of the stream.
async fn rest(mut stream: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

/// Finishes `write` while the other end reads; what it read.
async fn while_read(write: impl Future, reader: DuplexStream) -> Vec<u8> {
    let (_, all) = tokio::join!(write, rest(reader));
    all
}

// ------------------------------------------------------------------------------------------- sync

#[tokio::test]
async fn mpsc_receiver_recv_is_safe() {
    let (sender, mut receiver) = mpsc::channel(1);
    drop_suspended(receiver.recv());
    drop_woken(receiver.recv(), sender.send(1)).await;
    assert_eq!(receiver.recv().await, Some(1));
}

#[tokio::test]
async fn mpsc_receiver_recv_many_is_safe() {
    let (sender, mut receiver) = mpsc::channel(2);
    let mut taken = Vec::new();
    drop_suspended(receiver.recv_many(&mut taken, 2));
    drop_woken(receiver.recv_many(&mut taken, 2), async {
        sender.send(1).await.unwrap();
        sender.send(2).await.unwrap();
    })
    .await;
    assert!(taken.is_empty());
    assert_eq!(receiver.recv_many(&mut taken, 2).await, 2);
    assert_eq!(taken, [1, 2]);
}

#[tokio::test]
async fn mpsc_sender_send_is_not_safe() {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.send(1).await.unwrap();
    drop_suspended(sender.send(2));
    drop_woken(sender.send(3), receiver.recv()).await; // 1 leaves, and makes room
    drop(sender);
    assert_eq!(receiver.recv().await, None, "neither 2 nor 3");
}

#[tokio::test]
async fn mpsc_sender_reserve_loses_its_place() {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.send(1).await.unwrap();
    let free = || assert_eq!(receiver.try_recv(), Ok(1));
    assert_loses_only_its_place(|| sender.reserve(), || sender.reserve(), free);
}

#[tokio::test]
async fn mpsc_sender_closed_is_safe() {
    let (sender, mut receiver) = mpsc::channel::<u32>(1);
    drop_suspended(sender.closed());
    drop_woken(sender.closed(), async { receiver.close() }).await;
    sender.closed().await;
}

#[tokio::test]
async fn oneshot_receiver_is_not_safe() {
    let (sender, receiver) = oneshot::channel();
    drop_suspended(receiver);
    assert_eq!(sender.send(1), Err(1));
    let (sender, receiver) = oneshot::channel();
    let sent = async { assert_eq!(sender.send(1), Ok(()), "gone, and nobody is told") };
    drop_woken(receiver, sent).await;
}

#[tokio::test]
async fn mut_oneshot_receiver_is_safe() {
    let (sender, mut receiver) = oneshot::channel();
    drop_suspended(&mut receiver);
    drop_woken(&mut receiver, async { sender.send(1).unwrap() }).await;
    assert_eq!(receiver.await, Ok(1));
}

#[tokio::test]
async fn broadcast_receiver_recv_is_safe() {
    let (sender, mut receiver) = broadcast::channel(4);
    drop_suspended(receiver.recv());
    drop_woken(receiver.recv(), async { sender.send(1).unwrap() }).await;
    assert_eq!(receiver.recv().await, Ok(1));
}

#[tokio::test]
async fn watch_receiver_changed_is_safe() {
    let (sender, mut receiver) = watch::channel(0);
    drop_suspended(receiver.changed());
    drop_woken(receiver.changed(), async { sender.send(1).unwrap() }).await;
    assert!(receiver.has_changed().unwrap());
    receiver.changed().await.unwrap();
    assert_eq!(*receiver.borrow_and_update(), 1);
}

#[tokio::test]
async fn watch_receiver_wait_for_is_safe() {
    let (sender, mut receiver) = watch::channel(0);
    drop_suspended(receiver.wait_for(|value| *value == 2));
    drop_woken(receiver.wait_for(|value| *value == 2), async {
        sender.send(2).unwrap();
    })
    .await;
    assert_eq!(*receiver.wait_for(|value| *value == 2).await.unwrap(), 2);
    sender.send(3).unwrap();
    drop_suspended(receiver.wait_for(|value| *value == 4));
    assert!(!receiver.has_changed().unwrap(), "3 was passed over");
}

#[tokio::test]
async fn notify_notified_loses_its_place() {
    let notify = Notify::new();
    let free = || notify.notify_one();
    assert_loses_only_its_place(|| notify.notified(), || notify.notified(), free);
    drop_suspended(notify.notified());
    notify.notify_waiters();
    drop_suspended(notify.notified()); // it would not wait, had it been notified
}

#[tokio::test]
async fn semaphore_acquire_loses_its_place() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.acquire().await.unwrap();
    assert_loses_only_its_place(
        || semaphore.acquire(),
        || semaphore.acquire(),
        || drop(permit),
    );
}

#[tokio::test]
async fn mutex_lock_loses_its_place() {
    let mutex = Mutex::new(());
    let guard = mutex.lock().await;
    assert_loses_only_its_place(|| mutex.lock(), || mutex.lock(), || drop(guard));
}

#[tokio::test]
async fn rw_lock_read_loses_its_place() {
    let lock = RwLock::new(());
    let guard = lock.write().await;
    assert_loses_only_its_place(|| lock.read(), || lock.write(), || drop(guard));
}

#[tokio::test]
async fn rw_lock_write_loses_its_place() {
    let lock = RwLock::new(());
    let guard = lock.read().await;
    assert_loses_only_its_place(|| lock.write(), || lock.write(), || drop(guard));
}

#[tokio::test]
async fn once_cell_get_or_init_is_not_safe() {
    let cell = OnceCell::new();
    let begun = AtomicUsize::new(0);
    drop_suspended(cell.get_or_init(async || {
        begun.fetch_add(1, Ordering::Relaxed);
        pending().await
    }));
    let value = cell.get_or_init(async || begun.fetch_add(1, Ordering::Relaxed) + 1);
    assert_eq!(*value.await, 2, "begun twice");
}

#[tokio::test]
async fn barrier_wait_is_not_safe() {
    let barrier = Barrier::new(2);
    drop_suspended(barrier.wait());
    let alone = barrier.wait().now_or_never();
    assert!(alone.expect("it waits for the second").is_leader());
}

// ------------------------------------------------------------------------------------------- time

#[tokio::test(start_paused = true)]
async fn sleep_is_not_safe() {
    assert_eq!(beside_a_heartbeat(|| sleep(SECOND * 3 / 2)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn mut_sleep_is_safe() {
    let mut sleep = Box::pin(sleep(SECOND * 3 / 2));
    drop_suspended(&mut sleep);
    let started = Instant::now();
    drop_woken(&mut sleep, tokio::time::sleep(SECOND)).await;
    sleep.await;
    assert_eq!(started.elapsed(), SECOND * 3 / 2);
}

#[tokio::test(start_paused = true)]
async fn sleep_until_is_safe() {
    let deadline = Instant::now() + SECOND * 3 / 2;
    drop_suspended(sleep_until(deadline));
    drop_woken(sleep_until(deadline), sleep(SECOND)).await;
    sleep_until(deadline).await;
    assert_eq!(Instant::now(), deadline);
}

#[tokio::test(start_paused = true)]
async fn interval_tick_is_safe() {
    let mut interval = interval(SECOND);
    let first = interval.tick().await;
    drop_suspended(interval.tick());
    drop_woken(interval.tick(), sleep(SECOND * 3 / 2)).await;
    assert_eq!(interval.tick().await, first + SECOND);
    assert_eq!(interval.tick().await, first + 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn timeout_is_not_safe() {
    let work = || timeout(SECOND * 3 / 2, sleep(5 * SECOND / 4));
    let ended = beside_a_heartbeat(work).await;
    assert_eq!(ended, 0, "neither in time nor too late");
}

// ------------------------------------------------------------------------------------------ tasks

#[tokio::test(start_paused = true)]
async fn join_handle_runs_on() {
    let (done, mut told) = oneshot::channel();
    drop_suspended(tokio::spawn(async {
        sleep(SECOND).await;
        done.send(()).unwrap();
    }));
    assert_eq!(timeout(LIMIT, &mut told).await, Ok(Ok(())));
}

#[tokio::test]
async fn spawn_blocking_runs_on() {
    let (done, told) = oneshot::channel();
    let (go, may_go) = oneshot::channel::<()>();
    drop_suspended(spawn_blocking(|| {
        may_go.blocking_recv().unwrap();
        done.send(()).unwrap();
    }));
    go.send(()).unwrap();
    assert_eq!(told.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn mut_join_handle_is_safe() {
    let mut task = tokio::spawn(async {
        sleep(SECOND).await;
        1
    });
    drop_suspended(&mut task);
    drop_woken(&mut task, sleep(2 * SECOND)).await;
    assert_eq!(task.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn abort_on_drop_handle_is_not_safe() {
    let (alive, ended) = oneshot::channel::<()>();
    drop_suspended(AbortOnDropHandle::new(tokio::spawn(async {
        sleep(SECOND).await;
        alive.send(()).unwrap();
    })));
    assert!(ended.await.is_err(), "it went on");
}

#[tokio::test(start_paused = true)]
async fn join_set_join_next_is_safe() {
    let mut tasks = JoinSet::new();
    tasks.spawn(async {
        sleep(SECOND).await;
        1
    });
    drop_suspended(tasks.join_next());
    drop_woken(tasks.join_next(), sleep(2 * SECOND)).await;
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn join_set_join_all_is_not_safe() {
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for seconds in 1..=4 {
        let done = Arc::clone(&done);
        tasks.spawn(async move {
            sleep(seconds * SECOND).await;
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    timeout(SECOND * 5 / 2, tasks.join_all()).await.unwrap_err();
    sleep(LIMIT).await;
    assert_eq!(
        done.load(Ordering::Relaxed),
        2,
        "the results of two, and two tasks"
    );
}

#[tokio::test(start_paused = true)]
async fn task_tracker_wait_is_safe() {
    let tasks = TaskTracker::new();
    tasks.spawn(sleep(SECOND));
    tasks.close();
    drop_suspended(tasks.wait());
    drop_woken(tasks.wait(), sleep(2 * SECOND)).await;
    timeout(SECOND, tasks.wait()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn cancellation_token_cancelled_is_safe() {
    let token = CancellationToken::new();
    drop_suspended(token.cancelled());
    drop_woken(token.cancelled(), async { token.cancel() }).await;
    timeout(SECOND, token.cancelled()).await.unwrap();
}

// ---------------------------------------------------------------------------------------- sockets

#[tokio::test]
async fn tcp_listener_accept_is_safe() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop_suspended(listener.accept());
    for _ in 0..20 {
        let mut client = None;
        drop_woken(listener.accept(), async {
            client = Some(TcpStream::connect(address).await.unwrap());
        })
        .await;
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.unwrap().local_addr().unwrap());
    }
}

#[tokio::test]
async fn tcp_stream_connect_is_not_safe() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop_suspended(TcpStream::connect(listener.local_addr().unwrap()));
    let (mut accepted, _) = listener.accept().await.unwrap();
    // Its end, or its reset.
    assert_eq!(accepted.read(&mut [0]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn tcp_stream_readable_is_safe() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    stream.readable().await.unwrap(); // nothing has come: it is taken for readable at first
    stream.try_read(&mut [0; 8]).unwrap_err();
    drop_suspended(stream.readable());
    drop_woken(stream.readable(), client.write_all(b"x")).await;
    stream.readable().await.unwrap();
    assert_eq!(stream.try_read(&mut [0; 8]).unwrap(), 1);
}

#[tokio::test]
async fn udp_socket_recv_from_is_safe() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut buffer = [0; 8];
    drop_suspended(socket.recv_from(&mut buffer));
    let address = socket.local_addr().unwrap();
    drop_woken(
        socket.recv_from(&mut buffer),
        sender.send_to(b"whole", address),
    )
    .await;
    assert_eq!(socket.recv_from(&mut buffer).await.unwrap().0, 5);
    assert_eq!(&buffer[..5], b"whole");
}

// ---------------------------------------------------------------------------------------- reading

#[tokio::test]
async fn async_read_ext_read_is_safe() {
    let (mut writer, mut reader) = duplex(64);
    let mut buffer = [0; 8];
    drop_suspended(reader.read(&mut buffer));
    drop_woken(reader.read(&mut buffer), writer.write_all(b"whole")).await;
    assert_eq!(buffer, [0; 8]);
    assert_eq!(reader.read(&mut buffer).await.unwrap(), 5);
}

#[tokio::test]
async fn async_read_ext_read_buf_is_safe() {
    let (mut writer, mut reader) = duplex(64);
    let mut buffer = BytesMut::new();
    drop_suspended(reader.read_buf(&mut buffer));
    drop_woken(reader.read_buf(&mut buffer), writer.write_all(b"whole")).await;
    assert!(buffer.is_empty());
    assert_eq!(reader.read_buf(&mut buffer).await.unwrap(), 5);
}

#[tokio::test]
async fn async_read_ext_read_u32_is_not_safe() {
    let (mut writer, mut reader) = duplex(64);
    writer.write_all(&[0, 0, 0]).await.unwrap();
    drop_suspended(reader.read_u32());
    writer.write_all(&[7, 0, 0, 0]).await.unwrap();
    assert_eq!(reader.read_u32().await.unwrap(), 7 << 24, "not 7");
}

#[tokio::test]
async fn async_read_ext_read_exact_is_not_safe() {
    let (mut writer, mut reader) = duplex(64);
    writer.write_all(b"abc").await.unwrap();
    let mut buffer = [0; 4];
    drop_suspended(reader.read_exact(&mut buffer));
    writer.write_all(b"defg").await.unwrap();
    reader.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"defg", "not abcd");
}

#[tokio::test]
async fn async_read_ext_read_to_end_is_not_safe() {
    let (mut writer, mut reader) = duplex(64);
    writer.write_all(b"abc").await.unwrap();
    let mut buffer = Vec::new();
    drop_suspended(reader.read_to_end(&mut buffer));
    writer.write_all(b"de").await.unwrap();
    drop(writer);
    assert_eq!(reader.read_to_end(&mut buffer).await.unwrap(), 2, "not 5");
    assert_eq!(buffer, b"abcde");
}

#[tokio::test]
async fn async_read_ext_read_to_string_is_not_safe() {
    let (mut writer, mut reader) = duplex(64);
    writer.write_all(b"abc").await.unwrap();
    let mut buffer = "before ".to_owned();
    drop_suspended(reader.read_to_string(&mut buffer));
    writer.write_all(b"de").await.unwrap();
    drop(writer);
    reader.read_to_string(&mut buffer).await.unwrap();
    assert_eq!(buffer, "de", "not `before abcde`");
}

#[tokio::test]
async fn async_buf_read_ext_read_line_is_not_safe() {
    let (mut writer, reader) = duplex(64);
    let mut reader = BufReader::new(reader);
    writer.write_all(b"abc").await.unwrap();
    let mut line = "before ".to_owned();
    drop_suspended(reader.read_line(&mut line));
    writer.write_all(b"de\n").await.unwrap();
    reader.read_line(&mut line).await.unwrap();
    assert_eq!(line, "de\n", "not `before abcde`");
}

#[tokio::test]
async fn async_buf_read_ext_read_until_is_safe() {
    let (mut writer, reader) = duplex(64);
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    writer.write_all(b"abc").await.unwrap();
    drop_suspended(reader.read_until(b'\n', &mut line));
    drop_woken(
        reader.read_until(b'\n', &mut line),
        writer.write_all(b"de\n"),
    )
    .await;
    reader.read_until(b'\n', &mut line).await.unwrap();
    assert_eq!(line, b"abcde\n");
}

#[tokio::test]
async fn lines_next_line_is_safe() {
    let (mut writer, reader) = duplex(64);
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"abc").await.unwrap();
    drop_suspended(lines.next_line());
    drop_woken(lines.next_line(), writer.write_all(b"de\n")).await;
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "abcde");
}

#[tokio::test]
async fn async_buf_read_ext_fill_buf_is_safe() {
    let (mut writer, reader) = duplex(64);
    let mut reader = BufReader::new(reader);
    drop_suspended(reader.fill_buf());
    drop_woken(reader.fill_buf(), writer.write_all(b"whole")).await;
    assert_eq!(reader.fill_buf().await.unwrap(), b"whole");
}

// ---------------------------------------------------------------------------------------- writing

const TWENTY: &[u8; 20] = b"0123456789abcdefghij";

/// A pipe of eight bytes that has no room.
async fn full_pipe() -> (DuplexStream, DuplexStream) {
    let (mut writer, reader) = duplex(8);
    writer.write_all(b"________").await.unwrap();
    (writer, reader)
}

#[tokio::test]
async fn async_write_ext_write_is_safe() {
    let (mut writer, mut reader) = full_pipe().await;
    drop_suspended(writer.write(b"lost?"));
    drop_woken(writer.write(b"lost?"), reader.read_exact(&mut [0; 8])).await;
    drop(writer);
    assert!(rest(reader).await.is_empty(), "it was written all the same");
}

#[tokio::test]
async fn async_write_ext_write_buf_is_safe() {
    let (mut writer, mut reader) = full_pipe().await;
    let mut bytes = Bytes::from_static(b"whole");
    drop_suspended(writer.write_buf(&mut bytes));
    drop_woken(writer.write_buf(&mut bytes), reader.read_exact(&mut [0; 8])).await;
    assert_eq!(bytes.remaining(), 5);
    writer.write_buf(&mut bytes).await.unwrap();
    drop(writer);
    assert_eq!(rest(reader).await, b"whole");
}

#[tokio::test]
async fn async_write_ext_write_all_is_not_safe() {
    let (mut writer, reader) = duplex(8);
    drop_suspended(writer.write_all(TWENTY));
    let again = async move { writer.write_all(TWENTY).await.unwrap() };
    assert_eq!(
        while_read(again, reader).await,
        [&TWENTY[..8], TWENTY].concat()
    );
}

#[tokio::test]
async fn async_write_ext_write_all_buf_is_safe() {
    let (mut writer, reader) = duplex(8);
    let mut bytes = Bytes::from_static(TWENTY);
    drop_suspended(writer.write_all_buf(&mut bytes));
    let again = async move { writer.write_all_buf(&mut bytes).await.unwrap() };
    assert_eq!(while_read(again, reader).await, TWENTY);
}

#[tokio::test]
async fn async_write_ext_flush_is_safe() {
    let (writer, reader) = duplex(8);
    let mut writer = BufWriter::new(writer);
    writer.write_all(TWENTY).await.unwrap();
    drop_suspended(writer.flush());
    let again = async move { writer.flush().await.unwrap() };
    assert_eq!(while_read(again, reader).await, TWENTY);
}

#[tokio::test]
async fn async_write_ext_shutdown_is_safe() {
    let (writer, reader) = duplex(8);
    let mut writer = BufWriter::new(writer);
    writer.write_all(TWENTY).await.unwrap();
    drop_suspended(writer.shutdown());
    let all = while_read(async { writer.shutdown().await.unwrap() }, reader);
    assert_eq!(all.await, TWENTY);
}

#[tokio::test]
async fn io_copy_is_not_safe() {
    let (mut source, mut from) = duplex(64);
    let (mut to, target) = duplex(8);
    source.write_all(TWENTY).await.unwrap();
    drop(source);
    drop_suspended(copy(&mut from, &mut to));
    let again = async move { assert_eq!(copy(&mut from, &mut to).await.unwrap(), 0) };
    assert_eq!(
        while_read(again, target).await,
        TWENTY[..8],
        "twelve are gone"
    );
}

#[tokio::test]
async fn io_copy_bidirectional_is_not_safe() {
    let (mut client, mut left) = duplex(64);
    let (mut right, server) = duplex(8);
    client.write_all(TWENTY).await.unwrap();
    client.shutdown().await.unwrap();
    drop_suspended(copy_bidirectional(&mut left, &mut right));
    let again = async move { copy(&mut left, &mut right).await.unwrap() };
    assert_eq!(
        while_read(again, server).await,
        TWENTY[..8],
        "twelve are gone"
    );
}

// --------------------------------------------------------------- files, processes and signals

/// Drops the call while its work waits for the only thread that does such work, then lets that thread
/// go, and asks again and again until `done`.
fn assert_runs_on<F: Future>(call: impl FnOnce() -> F, done: impl AsyncFn() -> bool) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(1).build();
    runtime.unwrap().block_on(async {
        let (go, may_go) = oneshot::channel();
        drop(spawn_blocking(|| may_go.blocking_recv()));
        drop_suspended(call());
        go.send(()).unwrap();
        let asking = async {
            while !done().await {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, asking).await.expect("it has stopped");
    });
}

#[test]
fn fs_write_runs_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let done = async || fs::read(&path).await.is_ok_and(|bytes| bytes == TWENTY);
    assert_runs_on(|| fs::write(&path, TWENTY), done);
}

#[test]
fn fs_remove_file_runs_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let done = async || !fs::try_exists(file.path()).await.unwrap();
    assert_runs_on(|| fs::remove_file(file.path()), done);
}

/// Gives back each line that it is given, and ends with its input.
fn cat() -> Command {
    let mut cat = Command::new("cat");
    cat.stdin(Stdio::piped()).stdout(Stdio::piped());
    cat
}

#[tokio::test]
async fn child_wait_is_safe() {
    let mut child = cat().spawn().unwrap();
    drop_suspended(child.wait());
    assert!(child.stdin.is_none(), "closed by the first poll");
    let mut output = child.stdout.take().unwrap();
    // The end of its output is the end of the child, or nearly.
    drop_woken(child.wait(), output.read(&mut [0])).await;
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn child_wait_with_output_is_not_safe() {
    for kill_on_drop in [false, true] {
        let mut child = cat().kill_on_drop(kill_on_drop).spawn().unwrap();
        // Ours now: waiting closes only what the child still has.
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        drop_suspended(child.wait_with_output());
        if kill_on_drop {
            assert_eq!(output.read(&mut [0]).await.unwrap(), 0);
        } else {
            input.write_all(b"alive").await.unwrap();
            drop(input);
            assert_eq!(rest(output).await, b"alive");
        }
    }
}

#[tokio::test]
async fn signal_recv_is_safe() {
    let mut signals = signal(SignalKind::user_defined1()).unwrap();
    let mut witness = signal(SignalKind::user_defined1()).unwrap();
    drop_suspended(signals.recv());
    drop_woken(signals.recv(), async {
        send_to_itself("USR1").await;
        witness.recv().await.unwrap();
    })
    .await;
    timeout(LIMIT, signals.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn ctrl_c_is_not_safe() {
    let mut witness = signal(SignalKind::interrupt()).unwrap();
    drop_suspended(ctrl_c());
    send_to_itself("INT").await;
    witness.recv().await.unwrap();
    drop_suspended(ctrl_c()); // it would not wait, had it seen the signal
}

// ---------------------------------------------------------------------------------------- streams

#[tokio::test(start_paused = true)]
async fn stream_ext_next_is_safe() {
    let started = Instant::now();
    let mut numbers = pin!(unfold(1, async |number| {
        sleep(SECOND * 3 / 2).await;
        Some((number, number + 1))
    }));
    drop_suspended(numbers.next());
    drop_woken(numbers.next(), sleep(SECOND)).await;
    assert_eq!(numbers.next().await, Some(1));
    assert_eq!(started.elapsed(), SECOND * 3 / 2, "its sleep was kept");
}

#[tokio::test(start_paused = true)]
async fn stream_map_next_is_safe() {
    let mut streams = StreamMap::new();
    for name in ["slow", "slower"] {
        let stream = unfold((), async |()| {
            sleep(SECOND * 3 / 2).await;
            Some(((), ()))
        });
        streams.insert(name, Box::pin(stream));
    }
    let started = Instant::now();
    drop_suspended(streams.next());
    drop_woken(streams.next(), sleep(2 * SECOND)).await;
    let names = [
        streams.next().await.unwrap().0,
        streams.next().await.unwrap().0,
    ];
    assert_eq!(started.elapsed(), 2 * SECOND);
    assert_ne!(names[0], names[1]);
}

#[tokio::test(start_paused = true)]
async fn futures_unordered_next_is_safe() {
    let started = Instant::now();
    let mut futures: FuturesUnordered<_> = [sleep(SECOND), sleep(SECOND)].into_iter().collect();
    drop_suspended(futures.next());
    drop_woken(futures.next(), sleep(SECOND * 3 / 2)).await;
    assert_eq!(futures.by_ref().count().await, 2);
    assert_eq!(started.elapsed(), SECOND * 3 / 2);
}

#[tokio::test(start_paused = true)]
async fn delay_queue_next_is_safe() {
    let mut queue = DelayQueue::new();
    queue.insert(1, SECOND);
    drop_suspended(queue.next());
    drop_woken(queue.next(), sleep(2 * SECOND)).await;
    assert_eq!(queue.next().await.unwrap().into_inner(), 1);
}

/// Lines over a pipe of eight bytes. It waits before an item as soon as a byte is in its buffer.
fn lines() -> (Framed<DuplexStream, LinesCodec>, DuplexStream) {
    let (here, there) = duplex(8);
    let mut framed = Framed::new(here, LinesCodec::new());
    framed.set_backpressure_boundary(1);
    (framed, there)
}

#[tokio::test]
async fn framed_next_is_safe() {
    let (mut framed, mut peer) = lines();
    peer.write_all(b"abc").await.unwrap();
    drop_suspended(framed.next());
    drop_woken(framed.next(), peer.write_all(b"de\n")).await;
    assert_eq!(framed.next().await.unwrap().unwrap(), "abcde");
}

#[tokio::test]
async fn framed_feed_is_not_safe() {
    let (mut framed, peer) = lines();
    framed.feed("the first line").await.unwrap();
    drop_suspended(framed.feed("the second"));
    let last = async move { framed.send("the third").await.unwrap() };
    let seen = while_read(last, peer).await;
    assert_eq!(seen, b"the first line\nthe third\n");
}

#[tokio::test]
async fn framed_send_is_not_safe() {
    let (mut framed, peer) = lines();
    drop_suspended(framed.send("the first line")); // there was room for it
    drop_suspended(framed.send("the second"));
    let last = async move { framed.send("the third").await.unwrap() };
    let seen = while_read(last, peer).await;
    assert_eq!(seen, b"the first line\nthe third\n");
}
