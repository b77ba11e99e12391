//! That the file is whole at every moment, whoever is killed, dropped or out of space.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, LazyLock};
use std::time::Duration;

use ::io::durable_write::{DurableFile, ReplaceError};
use futures_util::poll;
use tempfile::TempDir;
use testing::capture_events::Capture;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Builder;

const LIMIT: Duration = Duration::from_secs(60);
const LENGTH: usize = 1 << 20;

/// A file with these bytes in a folder of its own.
fn file(content: &[u8]) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Content of one repeated byte, if it is whole.
fn version(content: &[u8]) -> Option<u8> {
    let first = *content.first()?;
    let whole = content.len() == LENGTH && content.iter().all(|byte| *byte == first);
    whole.then_some(first)
}

#[tokio::test]
async fn the_content_is_replaced_whatever_its_length_and_nothing_else_is_left() {
    let (folder, path) = file(b"old");
    let state = DurableFile::new(&path);
    for content in [&b"new"[..], b"", &[7; LENGTH]] {
        state.replace(content.to_vec()).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    assert_eq!(names(folder.path()), ["state"]);
}

#[tokio::test]
async fn a_file_that_does_not_exist_is_made() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    DurableFile::new(&path).replace("new").await.unwrap();
    assert_eq!(fs::read(path).unwrap(), b"new");
}

/// A path without a folder is in the working folder, here of a child.
#[test]
fn a_bare_name_is_in_the_working_folder() {
    let folder = TempDir::new().unwrap();
    let status = child("replace", Path::new("state"))
        .current_dir(folder.path())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(names(folder.path()), ["state"]);
}

#[test]
fn readers_see_the_old_or_the_new_whole() {
    let (_folder, path) = file(&[0; LENGTH]);
    let done = AtomicBool::new(false);
    let start = Barrier::new(3);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                start.wait();
                while !done.load(Ordering::Relaxed) {
                    let seen = version(&fs::read(&path).unwrap()).expect("half a file");
                    assert!(seen >= last, "{seen} after {last}");
                    last = seen;
                }
            });
        }
        start.wait();
        let state = DurableFile::new(&path);
        Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(async {
                for number in 1..=100 {
                    state.replace(vec![number; LENGTH]).await.unwrap();
                }
            });
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(version(&fs::read(&path).unwrap()), Some(100));
}

#[tokio::test]
async fn a_dropped_call_leaves_a_whole_file_and_a_later_call_has_the_last_word() {
    let points = every_await_point(
        LIMIT,
        async || file(&[1; LENGTH]),
        async |(_, path)| {
            let state = DurableFile::new(&*path);
            state.replace(vec![2; LENGTH]).await
        },
        async |(_, path), outcome| {
            let seen = version(&fs::read(&path).unwrap()).expect("half a file");
            if let Outcome::Completed(result) = outcome {
                result.unwrap();
                assert_eq!(seen, 2);
            }
        },
    )
    .await;
    assert!(points.unwrap() >= 1);

    let (folder, path) = file(&[1; LENGTH]);
    let state = DurableFile::new(&path);
    for _ in 0..50 {
        let mut dropped = Box::pin(state.replace(vec![2; LENGTH]));
        drop(poll!(&mut dropped)); // at work, or done already
        drop(dropped);
        state.clone().replace(vec![3; LENGTH]).await.unwrap();
        assert_eq!(version(&fs::read(&path).unwrap()), Some(3));
    }
    assert_eq!(names(folder.path()), ["state"]);
}

/// What all tests here log: a blocking thread has the subscriber of all threads.
fn log() -> &'static Capture {
    static LOG: LazyLock<Capture> = LazyLock::new(|| {
        let log = Capture::of("io::durable_write");
        tracing::dispatcher::set_global_default(log.dispatch()).unwrap();
        log
    });
    &LOG
}

#[tokio::test]
async fn a_failure_that_nobody_waits_for_is_told_by_an_event() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("missing/state");
    let state = DurableFile::new(&path);
    let log = log();
    let told = || {
        let path = path.display().to_string();
        log.lines().into_iter().find(|line| line.contains(&path))
    };
    state.replace("new").await.unwrap_err();
    assert_eq!(told(), None);
    let line = loop {
        let mut dropped = Box::pin(state.replace("new"));
        drop(poll!(&mut dropped)); // at work, or done already
        drop(dropped);
        if let Some(line) = told() {
            break line;
        }
        tokio::task::yield_now().await;
    };
    assert!(
        line.starts_with("ERROR a file was not replaced, and its caller has gone error="),
        "{line}"
    );
}

#[tokio::test]
async fn a_failure_that_its_caller_does_not_come_to_hear_is_told_as_well() {
    let folder = TempDir::new().unwrap();
    let state = DurableFile::new(folder.path().join("missing/state"));
    let log = log();
    let told = || {
        let path = folder.path().display().to_string();
        log.lines().iter().filter(|it| it.contains(&path)).count()
    };
    let mut dropped = Box::pin(state.replace("new"));
    while poll!(&mut dropped).is_ready() {
        dropped = Box::pin(state.replace("new")); // it had ended before it was asked
    }
    state.replace("new").await.unwrap_err(); // has its turn when the first has ended
    assert_eq!(told(), 0);
    drop(dropped);
    assert_eq!(told(), 1);
}

/// Who may not read the file may not read the new one either, from its first moment on.
#[cfg(unix)]
#[test]
fn what_is_private_is_private_while_it_is_replaced() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (folder, path) = file(b"old");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let state = DurableFile::new(&path);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let spy = scope.spawn(|| {
            let (mut looks, mut open) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                for entry in fs::read_dir(folder.path()).unwrap() {
                    let entry = entry.unwrap();
                    if entry.file_name() == "state" {
                        continue;
                    }
                    // It may be gone by now.
                    if let Ok(found) = entry.metadata() {
                        looks += 1;
                        open += u32::from(found.mode() & 0o077 != 0);
                    }
                }
            }
            (looks, open)
        });
        Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(async {
                for _ in 0..500 {
                    state.replace("new").await.unwrap();
                }
            });
        done.store(true, Ordering::Relaxed);
        let (looks, open) = spy.join().unwrap();
        assert!(looks > 0, "it has seen none");
        assert_eq!(open, 0);
    });
}

#[cfg(unix)]
#[tokio::test]
async fn permissions_are_kept_and_new_files_have_the_usual_ones() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = file(b"old");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let usual = mode(&path);
    for kept in [0o600, 0o640, 0o444, 0o755] {
        fs::set_permissions(&path, PermissionsExt::from_mode(kept)).unwrap();
        DurableFile::new(&path).replace("new").await.unwrap();
        assert_eq!(mode(&path), kept);
    }
    let other = folder.path().join("other");
    DurableFile::new(&other).replace("new").await.unwrap();
    assert_eq!(mode(&other), usual);
}

#[cfg(unix)]
#[tokio::test]
async fn a_symbolic_link_stays_one_and_what_it_leads_to_is_replaced() {
    let (folder, path) = file(b"old");
    let elsewhere = TempDir::new().unwrap();
    let link = elsewhere.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    DurableFile::new(&link).replace("new").await.unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(
        (names(folder.path()), names(elsewhere.path())),
        (vec!["state".into()], vec!["link".into()])
    );

    fs::remove_file(&path).unwrap();
    let error = DurableFile::new(&link).replace("new").await.unwrap_err();
    assert!(matches!(error, ReplaceError::Unchanged { .. }), "{error}");
    assert!(link.is_symlink() && !path.exists());
}

#[tokio::test]
async fn what_cannot_be_replaced_is_named_and_stays() {
    let (folder, path) = file(b"old");
    let inside = folder.path().join("inside");
    fs::create_dir(&inside).unwrap();
    for (path, kind) in [
        (inside, io::ErrorKind::InvalidInput),
        (folder.path().join("missing/state"), io::ErrorKind::NotFound),
        (path.join("state"), io::ErrorKind::NotADirectory),
        ("/".into(), io::ErrorKind::InvalidInput),
        ("".into(), io::ErrorKind::InvalidInput),
    ] {
        let error = DurableFile::new(&path).replace("new").await.unwrap_err();
        assert!(error.to_string().contains("which is as it was"), "{error}");
        let ReplaceError::Unchanged {
            path: named,
            source,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((&*named, source.kind()), (&*path, kind), "{source}");
    }
    assert_eq!(names(folder.path()), ["inside", "state"]);
    assert_eq!(fs::read(path).unwrap(), b"old");
}

struct Panics;

impl AsRef<[u8]> for Panics {
    fn as_ref(&self) -> &[u8] {
        panic!("no content")
    }
}

#[tokio::test]
async fn a_panic_is_the_callers_and_the_file_can_be_replaced_again() {
    let (_folder, path) = file(b"old");
    let state = DurableFile::new(&path);
    let panics = state.clone();
    let error = tokio::spawn(async move { panics.replace(Panics).await })
        .await
        .unwrap_err();
    assert!(error.is_panic());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    state.replace("new").await.unwrap();
}

#[test]
fn a_runtime_that_shuts_down_says_so() {
    let (_folder, path) = file(b"old");
    let runtime = Builder::new_current_thread()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    let result = handle.block_on(DurableFile::new(&path).replace("new"));
    assert!(matches!(result, Err(ReplaceError::ShutDown)));
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

/// A child process that runs [`what_children_do`].
fn child(job: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "what_children_do", "--nocapture"]);
    command
        .env("DURABLE_WRITE_JOB", job)
        .env("DURABLE_WRITE_PATH", path);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The same, with files of 32 KiB at most, and an error instead of a signal for longer ones.
#[cfg(unix)]
fn child_without_space(job: &str, path: &Path) -> Command {
    let child = child(job, path);
    let mut shell = Command::new("sh");
    let script = "ulimit -f 64 && trap '' XFSZ && exec \"$@\"";
    shell
        .args(["-c", script, "sh"])
        .arg(child.get_program())
        .args(child.get_args());
    for (name, value) in child.get_envs() {
        shell.env(name, value.unwrap());
    }
    shell.stdout(Stdio::null()).stderr(Stdio::null());
    shell
}

/// Called as a test it does nothing: it is for the children.
#[test]
fn what_children_do() {
    let (Some(job), Some(path)) = (
        std::env::var_os("DURABLE_WRITE_JOB"),
        std::env::var_os("DURABLE_WRITE_PATH"),
    ) else {
        return;
    };
    let state = DurableFile::new(&path);
    let replace = async |number| state.replace(vec![number; LENGTH]).await;
    let runtime = Builder::new_current_thread().build().unwrap();
    match job.to_str().unwrap() {
        "replace" => runtime.block_on(replace(2)).unwrap(),
        "replace for ever" => runtime.block_on(async {
            for number in (1..=9).cycle() {
                replace(number).await.unwrap();
            }
        }),
        "replace and fail" => {
            let error = runtime.block_on(replace(2)).unwrap_err();
            let ReplaceError::Unchanged { source, .. } = error else {
                panic!("{error}")
            };
            assert_eq!(source.kind(), io::ErrorKind::FileTooLarge);
        }
        "write" => drop(fs::write(&path, vec![2; LENGTH]).unwrap_err()),
        job => panic!("no such job: {job}"),
    }
}

#[cfg(unix)]
#[test]
fn without_space_the_old_content_stays_and_nothing_is_left_behind() {
    let (folder, path) = file(&[1; LENGTH]);
    let status = child_without_space("replace and fail", &path)
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(version(&fs::read(&path).unwrap()), Some(1));
    assert_eq!(names(folder.path()), ["state"]);
}

#[cfg(unix)]
#[test]
fn harm_without_space_a_plain_write_leaves_neither_the_old_nor_the_new() {
    let (_folder, path) = file(&[1; LENGTH]);
    assert!(
        child_without_space("write", &path)
            .status()
            .unwrap()
            .success()
    );
    let left = fs::read(&path).unwrap();
    assert_eq!(version(&left), None);
    assert!(
        left.len() < LENGTH && left.iter().all(|byte| *byte == 2),
        "{} bytes",
        left.len()
    );
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn killed_at_any_moment_it_leaves_a_whole_file_and_leftovers_that_can_be_removed() {
    let (folder, path) = file(&[0; LENGTH]);
    let state = DurableFile::new(&path);
    fs::write(folder.path().join(".state.old.replacing"), "not ours").unwrap();
    let (mut left, mut removed) = (0, 0);
    for round in 0..60 {
        // From 0, which no child writes: how long one takes to start is the machine's affair.
        fs::write(&path, [0; LENGTH]).unwrap();
        let child = child("replace for ever", &path).spawn().unwrap();
        let wrote = async {
            while version(&fs::read(&path).unwrap()) == Some(0) {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        };
        let wrote = tokio::time::timeout(LIMIT, wrote).await;
        // From right after its first write to after some of them.
        tokio::time::sleep(Duration::from_micros(137 * round)).await;
        kill(child);
        wrote.expect("the child came to write");
        version(&fs::read(&path).unwrap()).expect("half a file");
        left += names(folder.path()).len() - 2;
        removed += state.remove_leftovers().await.unwrap();
        assert_eq!(names(folder.path()), [".state.old.replacing", "state"]);
    }
    assert!(left > 0, "no child was killed within a write");
    assert_eq!(left, removed);
}

#[tokio::test]
async fn a_dropped_removal_of_leftovers_leaves_the_file() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (folder, path) = file(b"old");
            fs::write(folder.path().join(".state.abc123.replacing"), "").unwrap();
            (folder, DurableFile::new(path))
        },
        async |(_, state)| state.remove_leftovers().await,
        async |(folder, state), outcome| {
            let removed = state.remove_leftovers().await.unwrap();
            if let Outcome::Completed(result) = outcome {
                assert_eq!((result.unwrap(), removed), (1, 0));
            }
            assert_eq!(names(folder.path()), ["state"]);
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn harm_a_file_of_tokio_that_is_dropped_tells_nobody_of_its_last_error() {
    let mut full = tokio::fs::File::create("/dev/full").await.unwrap();
    full.write_all(b"lost")
        .await
        .expect("it is not written yet");
    drop(full);
    let mut full = tokio::fs::File::create("/dev/full").await.unwrap();
    full.write_all(b"lost").await.unwrap();
    let error = full.flush().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}
