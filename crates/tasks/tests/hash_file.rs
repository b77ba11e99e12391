//! What hashing a file promises. On real time: files and threads have no other.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use futures_util::future::try_join_all;
use sha2::{Digest, Sha256};
use tasks::hash_file::{CHUNK, HashFileError, Sha256Sum, hash_file};
use tempfile::TempDir;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// A folder with one file.
fn file(content: &[u8]) -> io::Result<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("file");
    fs::write(&path, content)?;
    Ok((folder, path))
}

/// A file that nobody has the time to read: a terabyte that takes no place on the disk.
fn endless() -> io::Result<(TempDir, PathBuf)> {
    let (folder, path) = file(b"")?;
    File::options().write(true).open(&path)?.set_len(1 << 40)?;
    Ok((folder, path))
}

/// Runs `job` on a thread; whether it ended in time. If not, the thread is left behind.
fn ends(job: impl FnOnce() + Send + 'static) -> bool {
    let (done, is_done) = sync_channel(1);
    thread::spawn(move || {
        job();
        done.send(())
    });
    is_done.recv_timeout(LIMIT).is_ok()
}

/// The digests that NIST publishes with FIPS 180, for "abc" and for a million times "a", and the
/// well-known one of nothing.
#[tokio::test]
async fn the_digests_are_the_published_ones() {
    for (content, digest) in [
        (
            b"abc".to_vec(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            vec![b'a'; 1_000_000],
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        ),
        (
            Vec::new(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
    ] {
        let (_folder, path) = file(&content).unwrap();
        assert_eq!(hash_file(&path).await.unwrap().to_string(), digest);
    }
}

#[tokio::test]
async fn a_file_of_any_length_around_the_chunk_is_hashed_whole() {
    for length in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
        let content: Vec<u8> = (0..=250).cycle().take(length).collect();
        let (_folder, path) = file(&content).unwrap();
        let whole = Sha256Sum(Sha256::digest(&content).into());
        assert_eq!(hash_file(path).await.unwrap(), whole, "{length} bytes");
    }
}

#[tokio::test]
async fn a_missing_file_is_an_error_with_its_path_and_the_systems_reason() {
    let error = hash_file("/no/such/file").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read /no/such/file");
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.unwrap().kind(), io::ErrorKind::NotFound);
}

/// The memory of this process counts as a regular file, and nothing is at address 0.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_whose_read_fails_is_an_error_and_is_not_read_again() {
    let hashed = timeout(LIMIT, hash_file("/proc/self/mem")).await.unwrap();
    let error = hashed.unwrap_err();
    assert!(matches!(error, HashFileError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn a_directory_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = hash_file(folder.path()).await.unwrap_err();
    assert!(
        matches!(&error, HashFileError::NotAFile { path } if path == folder.path()),
        "{error:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_named_pipe_that_nobody_writes_to_is_refused_and_holds_no_thread() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    assert!(
        ends(move || {
            let refused = runtime().unwrap().block_on(hash_file(pipe));
            assert!(matches!(refused, Err(HashFileError::NotAFile { .. })));
        }),
        "opening it waits for a writer"
    );
}

#[test]
fn a_runtime_that_shuts_down_first_is_an_error_with_the_path() {
    let stops = runtime().unwrap();
    let mut hash = Box::pin(hash_file("/etc/hostname"));
    {
        let stopped = stops.handle().clone();
        drop(stops);
        let _entered = stopped.enter();
        let error = futures_util::FutureExt::now_or_never(hash.as_mut()).unwrap();
        let error = error.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the task that hashes /etc/hostname did not end"
        );
    }
}

/// How many turns another task of the same thread has until `hash` is done.
async fn turns_meanwhile<T>(hash: impl Future<Output = T>) -> usize {
    let turns = Arc::new(AtomicUsize::new(0));
    let other = tokio::spawn({
        let turns = Arc::clone(&turns);
        async move {
            loop {
                yield_now().await;
                turns.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    yield_now().await; // it has begun
    let before = turns.load(Ordering::Relaxed);
    hash.await;
    let turns = turns.load(Ordering::Relaxed) - before;
    other.abort();
    turns
}

#[tokio::test]
async fn other_tasks_keep_their_pace_while_a_file_is_hashed() {
    let (_folder, path) = file(&vec![7; 64 * CHUNK]).unwrap();
    let turns = turns_meanwhile(async { hash_file(path).await.unwrap() }).await;
    assert!(turns >= 100, "{turns} turns");
}

#[tokio::test]
async fn hashing_in_the_async_function_itself_gives_no_other_task_a_turn() {
    let (_folder, path) = file(&vec![7; 64 * CHUNK]).unwrap();
    let in_place = async |path: &Path| {
        let mut file = File::open(path).unwrap();
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        while let length @ 1.. = io::Read::read(&mut file, &mut chunk).unwrap() {
            hasher.update(&chunk[..length]);
        }
        hasher.finalize()
    };
    assert_eq!(turns_meanwhile(in_place(&path)).await, 0);
}

#[test]
fn dropping_the_future_stops_the_hashing() {
    let (_folder, path) = endless().unwrap();
    assert!(
        ends(move || {
            let runtime = runtime().unwrap();
            let hash = async { timeout(Duration::from_millis(50), hash_file(path)).await };
            runtime.block_on(hash).expect_err("a terabyte takes longer");
            drop(runtime); // waits for its blocking threads
        }),
        "it still hashes"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hash_dropped_at_any_await_point_leaves_the_file_and_the_next_hash_unharmed() {
    let (_folder, path) = file(&vec![b'a'; 1_000_000]).unwrap();
    let known = hash_file(&path).await.unwrap();
    let points = every_await_point(
        LIMIT,
        async || (),
        async |()| hash_file(&path).await.unwrap(),
        async |(), round| {
            assert!(matches!(round, Outcome::Dropped(_)) || round == Outcome::Completed(known));
            assert_eq!(hash_file(&path).await.unwrap(), known);
        },
    );
    assert!(points.await.unwrap() >= 1);
}

#[test]
fn neither_abort_nor_a_dropped_handle_stops_a_blocking_task_that_has_begun() {
    for abort in [true, false] {
        let (begun, has_begun) = sync_channel(1);
        let (go_on, may_go_on) = sync_channel::<()>(1);
        let (ended, has_ended) = sync_channel(1);
        runtime().unwrap().block_on(async {
            let task = spawn_blocking(move || {
                begun.send(()).unwrap();
                may_go_on.recv_timeout(LIMIT).unwrap();
                ended.send("to its end").unwrap();
                "a result all the same"
            });
            has_begun.recv_timeout(LIMIT).unwrap();
            if abort {
                task.abort();
                go_on.send(()).unwrap();
                assert_eq!(task.await.unwrap(), "a result all the same");
            } else {
                drop(task);
                go_on.send(()).unwrap();
            }
        });
        assert_eq!(has_ended.recv_timeout(LIMIT), Ok("to its end"));
    }
}

#[test]
fn each_call_takes_a_thread_up_to_the_runtimes_limit() {
    for (calls, at_most, expected) in [(20, 512, 20), (20, 4, 4)] {
        let (_folder, path) = endless().unwrap();
        let threads = Arc::new(AtomicUsize::new(0));
        let started = Arc::clone(&threads);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(at_most)
            .on_thread_start(move || _ = started.fetch_add(1, Ordering::SeqCst))
            .build()
            .unwrap();
        let all_started = async {
            while threads.load(Ordering::SeqCst) < expected {
                yield_now().await;
            }
        };
        runtime.block_on(async {
            let hashes = try_join_all((0..calls).map(|_| hash_file(&path)));
            tokio::select! {
                biased; // the calls are made first
                hashes = hashes => panic!("{hashes:?}"),
                in_time = timeout(LIMIT, all_started) => in_time.unwrap(),
            }
        });
        drop(runtime);
        assert_eq!(threads.load(Ordering::SeqCst), expected);
    }
}
