//! What a call that blocks does to everything else on its runtime.
//!
//! The blocking job ends when something else on the runtime has made progress, or gives up after a
//! while: that it gives up is the harm, on a machine of any speed.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use antipatterns::block_in_async::respond;
use runtime::cpu_offload::CpuPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep, timeout};

/// The patience of a job for which no progress can come.
const GIVES_UP: Duration = Duration::from_secs(1);
/// That of one for which it comes.
const LONG: Duration = Duration::from_secs(60);

/// Blocks its thread until there is progress, or its patience is at an end.
fn job(progress: &Receiver<()>, patience: Duration) -> Result<(), RecvTimeoutError> {
    progress.recv_timeout(patience)
}

/// Starts a timer that tells when it comes.
async fn timer(came: SyncSender<()>) -> JoinHandle<()> {
    let timer = tokio::spawn(async move {
        sleep(Duration::from_millis(5)).await;
        came.send(()).unwrap();
    });
    yield_now().await; // now it waits
    timer
}

#[tokio::test]
async fn harm_no_timer_comes_while_it_blocks() {
    let (came, seen) = sync_channel(1);
    let timer = timer(came).await;
    let started = Instant::now();
    let blocked = respond(|| job(&seen, GIVES_UP)).await;
    assert_eq!(blocked, Err(RecvTimeoutError::Timeout));
    assert!(started.elapsed() >= GIVES_UP);
    timer.await.unwrap();
    assert_eq!(seen.try_recv(), Ok(()), "it comes afterwards");
}

#[tokio::test]
async fn harm_no_socket_is_read_while_it_blocks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let (came, seen) = sync_channel(1);
    client.write_all(b"x").await.unwrap(); // it is in the kernel's buffer now
    let reader = tokio::spawn(async move {
        let byte = server.read_u8().await.unwrap();
        came.send(()).ok();
        byte
    });
    let blocked = respond(|| job(&seen, GIVES_UP)).await;
    assert_eq!(blocked, Err(RecvTimeoutError::Timeout));
    assert_eq!(reader.await.unwrap(), b'x');
}

/// Blocks so many of two workers, then spawns a task that ends the jobs; tells whether it could.
fn with_workers_blocked(calls: usize, patience: Duration) -> Vec<Result<(), RecvTimeoutError>> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let (ends, jobs): (Vec<_>, Vec<_>) = (0..calls).map(|_| sync_channel(1)).unzip();
    let jobs: Vec<_> = jobs
        .into_iter()
        .map(|end| {
            let begun = Arc::new(Barrier::new(2));
            let begins = Arc::clone(&begun);
            let job = runtime.spawn(respond(move || {
                begins.wait();
                job(&end, patience)
            }));
            // This thread is no worker. One after the other, since a worker may take two at once.
            begun.wait();
            job
        })
        .collect();
    runtime.spawn(async move {
        for end in ends {
            end.send(()).ok();
        }
    });
    let results = jobs.into_iter().map(|job| runtime.block_on(job).unwrap());
    results.collect()
}

#[test]
fn harm_as_many_calls_as_workers_stop_them_all() {
    assert_eq!(
        with_workers_blocked(1, LONG),
        [Ok(())],
        "the other worker is free"
    );
    // The first that gives up makes way for the task, which may then be in time for the other.
    let two = with_workers_blocked(2, GIVES_UP);
    assert!(two.contains(&Err(RecvTimeoutError::Timeout)), "{two:?}");
}

#[tokio::test]
async fn harm_a_time_limit_does_not_end_it() {
    let (_kept, silence) = sync_channel(1);
    let limited = timeout(
        Duration::from_millis(5),
        respond(|| job(&silence, GIVES_UP)),
    )
    .await;
    assert_eq!(
        limited,
        Ok(Err(RecvTimeoutError::Timeout)),
        "its result, late, and no error"
    );
}

#[tokio::test]
async fn mended_the_timer_and_the_socket_go_on_beside_it() {
    let pool = CpuPool::new(NonZeroUsize::MIN);
    let (came, seen) = sync_channel(1);
    let _timer = timer(came).await;
    assert_eq!(pool.run(move |_| job(&seen, LONG)).await.unwrap(), Ok(()));

    let (mut near, mut far) = duplex(1);
    let (came, seen) = sync_channel(1);
    let reader = tokio::spawn(async move {
        let byte = far.read_u8().await.unwrap();
        came.send(()).ok();
        byte
    });
    let job = pool.run(move |_| job(&seen, LONG));
    let (done, written) = tokio::join!(job, near.write_u8(b'x'));
    written.unwrap();
    assert_eq!((done.unwrap(), reader.await.unwrap()), (Ok(()), b'x'));
}
