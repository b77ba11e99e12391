//! What becomes of a cleanup that a destructor blocks on or spawns.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::process::{Command, Stdio};
use std::time::Duration;

use antipatterns::cleanup_in_drop::{FlushBlocking, FlushSpawned};
use shutdown::async_close::MustClose;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex};
use tokio::runtime::{Builder, Runtime};

const LINE: &[u8] = b"goodbye\n";

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// A writer that holds a line back, and the other end.
async fn written() -> (BufWriter<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(64);
    let mut writer = BufWriter::new(near);
    writer.write_all(LINE).await.unwrap();
    (writer, far)
}

/// What has arrived by the time that the writer is gone.
async fn arrived(mut far: DuplexStream) -> Vec<u8> {
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test]
async fn harm_a_drop_that_blocks_panics_and_flushes_nothing() {
    let (writer, far) = written().await;
    let task = tokio::spawn(async { drop(FlushBlocking(writer)) });
    let panic = task.await.unwrap_err().into_panic();
    let message = panic.downcast_ref::<&str>().unwrap();
    assert!(message.starts_with("Cannot start a runtime from within a runtime"));
    assert_eq!(arrived(far).await, b"");
}

/// It ends the process, so it runs in one of its own.
#[test]
fn harm_a_drop_that_blocks_ends_the_process_when_its_task_panics() {
    let task_panics = async |guarded: bool| {
        let (writer, _far) = written().await;
        let task = tokio::spawn(async move {
            let _log = if guarded {
                Ok(FlushBlocking(writer))
            } else {
                Err(writer)
            };
            panic!("a handler's bug");
        });
        assert!(task.await.unwrap_err().is_panic());
    };
    current_thread().block_on(task_panics(false)); // without the destructor it is the task's matter
    if std::env::var_os("CLEANUP_IN_DROP").is_some() {
        current_thread().block_on(task_panics(true));
        std::process::exit(0);
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let test = "harm_a_drop_that_blocks_ends_the_process_when_its_task_panics";
    child.args(["--exact", test, "--nocapture"]);
    child.env("CLEANUP_IN_DROP", "1").stdout(Stdio::null());
    let output = child.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("panic in a destructor during cleanup"),
        "{said}"
    );
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(output.status.signal(), Some(6), "aborted");
    }
    assert!(!output.status.success());
}

#[test]
fn harm_of_ten_spawned_cleanups_at_the_end_of_main_none_is_done() {
    let runtime = current_thread();
    let ends: Vec<_> = (0..10).map(|_| runtime.block_on(written())).collect();
    let (writers, ends): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
    runtime.block_on(async {
        drop(
            writers
                .into_iter()
                .map(|it| FlushSpawned(Some(it)))
                .collect::<Vec<_>>(),
        );
    });
    drop(runtime); // as at the end of `main`
    for far in ends {
        assert_eq!(current_thread().block_on(arrived(far)), b"");
    }
}

#[test]
fn harm_a_drop_that_spawns_panics_outside_of_a_runtime() {
    let (writer, _far) = current_thread().block_on(written());
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(FlushSpawned(Some(writer)));
    }));
    let panic = dropped.unwrap_err();
    let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
    assert!(message.unwrap().starts_with("there is no reactor running"));
}

#[test]
fn mended_a_close_that_is_awaited_brings_the_line() {
    let runtime = current_thread();
    let (writer, far) = runtime.block_on(written());
    let writer = MustClose::new("log", writer);
    let closed = runtime.block_on(writer.close(Duration::from_secs(1)));
    drop((closed.unwrap(), runtime));
    assert_eq!(current_thread().block_on(arrived(far)), LINE);
}
