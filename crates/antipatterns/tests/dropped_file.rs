//! What a file is like that was written to and dropped.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use antipatterns::dropped_file::save;
use futures_util::poll;
use io::durable_write::DurableFile;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// For what comes at once, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(10);

/// A runtime with one thread for blocking work, so that its jobs come in turn.
fn runtime() -> Runtime {
    let mut runtime = Builder::new_current_thread();
    runtime.max_blocking_threads(1).enable_time();
    runtime.build().unwrap()
}

/// Saves while the thread for blocking work is busy, from after the file's making until the sender
/// that is returned is dropped.
async fn save_while_busy(path: &Path) -> SyncSender<()> {
    let (first, until) = sync_channel::<()>(0);
    spawn_blocking(move || until.recv().ok());
    let mut saving = pin!(save(path, b"content"));
    assert!(poll!(&mut saving).is_pending(), "the file is to be made");
    let (busy, until) = sync_channel::<()>(0);
    spawn_blocking(move || until.recv().ok());
    drop(first);
    timeout(LIMIT, saving).await.expect("it waits").unwrap();
    busy
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn harm_on_a_full_disk_it_is_saved() {
    save(Path::new("/dev/full"), b"content").await.unwrap();
}

#[test]
fn harm_it_is_saved_and_the_file_is_empty() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    runtime().block_on(async {
        let busy = save_while_busy(&path).await;
        assert_eq!(fs::read(&path).unwrap(), b"");
        drop(busy);
        // A job that comes later, so this one is done.
        spawn_blocking(|| ()).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"content");
    });
}

#[test]
fn harm_it_is_saved_and_the_process_exits_and_the_file_stays_empty() {
    if let Some(path) = std::env::var_os("DROPPED_FILE") {
        let runtime = runtime();
        let _busy = runtime.block_on(save_while_busy(path.as_ref()));
        std::process::exit(0);
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    let mut child = Command::new(std::env::current_exe().unwrap());
    let test = "harm_it_is_saved_and_the_process_exits_and_the_file_stays_empty";
    child.args(["--exact", test, "--nocapture"]);
    child.env("DROPPED_FILE", &path);
    let status = child.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success());
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn the_end_of_main_waits_for_the_write() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    let runtime = runtime();
    let busy = runtime.block_on(save_while_busy(&path));
    assert_eq!(fs::read(&path).unwrap(), b"");
    drop(busy);
    drop(runtime);
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn mended_a_flush_tells_of_the_full_disk() {
    let mut file = tokio::fs::File::create("/dev/full").await.unwrap();
    file.write_all(b"content").await.unwrap();
    let error = file.flush().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn mended_what_is_replaced_is_there_when_it_has_returned() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    let replaced = runtime().block_on(DurableFile::new(&path).replace(b"content"));
    replaced.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"content");
}
