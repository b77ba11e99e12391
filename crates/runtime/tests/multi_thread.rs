//! What the multi-thread runtime promises. Real threads: the tests wait for what happens, with a
//! limit that only a failure reaches, and measure no short times.
#![cfg(test)]

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use runtime::multi_thread::{BuildError, MultiThread, Settings, StillRunning};
use testing::capture_events::Capture;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

fn positive(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

fn started(workers: usize, shutdown_limit: Duration) -> MultiThread {
    let settings = Settings {
        workers: Some(positive(workers)),
        blocking_threads: positive(2),
        thread_name: "api".to_owned(),
        shutdown_limit,
    };
    settings.build().unwrap()
}

/// A closure that blocks until the sender is dropped, or for `LIMIT`, and tells when it has begun and ended.
fn blocker(label: u8) -> (SyncSender<()>, Receiver<u8>, impl FnOnce() + Send + 'static) {
    let (release, released) = sync_channel::<()>(1);
    let (tell, told) = sync_channel(2);
    let block = move || {
        tell.send(label).unwrap();
        released.recv_timeout(LIMIT).ok();
        tell.send(label).ok(); // the test may have ended
    };
    (release, told, block)
}

fn thread_name() -> String {
    thread::current().name().unwrap_or("none").to_owned()
}

/// Runs one test of this file again in a process of its own.
fn child(test: &str, command: &[&str]) -> Command {
    let this = env::current_exe().unwrap();
    let mut child = match command {
        [] => Command::new(this),
        [program, arguments @ ..] => {
            let mut child = Command::new(program);
            child.args(arguments).arg(this);
            child
        }
    };
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    child
        .env_remove("TOKIO_WORKER_THREADS")
        .env("IN_CHILD", "1");
    child
}

fn in_child() -> bool {
    env::var_os("IN_CHILD").is_some()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn so_many_workers_run_at_once_under_the_name_asked_for() {
    let runtime = started(3, LIMIT);
    assert_eq!(runtime.handle().metrics().num_workers(), 3);
    // Each task blocks its worker until three of them do. One after the other: a worker may take two
    // at once, and nobody takes the second from it.
    let barrier = Arc::new(Barrier::new(3));
    let tasks = [(); 3].map(|()| {
        let (barrier, begun) = (Arc::clone(&barrier), Arc::new(Barrier::new(2)));
        let begins = Arc::clone(&begun);
        let task = runtime.handle().spawn(async move {
            begins.wait();
            barrier.wait();
            thread_name()
        });
        begun.wait(); // this thread is no worker
        task
    });
    let names = runtime.handle().block_on(async {
        let mut names = BTreeSet::new();
        for task in tasks {
            names.insert(task.await.unwrap());
        }
        names
    });
    assert_eq!(Vec::from_iter(names), ["api-0", "api-1", "api-2"]);
    runtime.shutdown().unwrap();
}

#[test]
fn no_more_blocking_closures_run_at_once_than_asked_for() {
    let runtime = started(1, LIMIT);
    let (first_release, first, first_job) = blocker(1);
    let (second_release, second, second_job) = blocker(2);
    let (third_release, third, third_job) = blocker(3);
    for job in [
        Box::new(first_job) as Box<dyn FnOnce() + Send>,
        Box::new(second_job),
        Box::new(third_job),
    ] {
        drop(runtime.handle().spawn_blocking(job));
    }
    first.recv_timeout(LIMIT).unwrap();
    second.recv_timeout(LIMIT).unwrap();
    third
        .recv_timeout(SHORT)
        .expect_err("two threads, and three closures run");
    drop(first_release);
    third.recv_timeout(LIMIT).unwrap();
    drop((second_release, third_release));
    runtime.shutdown().unwrap();
}

#[test]
fn the_attribute_makes_the_same_runtime_under_another_name() {
    #[tokio::main(flavor = "multi_thread", worker_threads = 4)]
    async fn by_attribute() -> (usize, String) {
        let name = tokio::spawn(async { thread_name() }).await.unwrap();
        (Handle::current().metrics().num_workers(), name)
    }
    assert_eq!(by_attribute(), (4, "tokio-rt-worker".to_owned()));
    let runtime = Settings {
        workers: NonZeroUsize::new(4),
        ..Settings::default()
    };
    assert_eq!(runtime.build().unwrap().handle().metrics().num_workers(), 4);
}

#[test]
fn the_future_of_block_on_runs_on_the_calling_thread() {
    let runtime = started(1, LIMIT);
    let (calling, spawned) = runtime.handle().block_on(async {
        (
            thread::current().id(),
            tokio::spawn(async { thread_name() }).await.unwrap(),
        )
    });
    assert_eq!(calling, thread::current().id());
    assert_eq!(spawned, "api-0");
}

#[test]
fn the_default_number_of_workers_is_tokios() {
    if in_child() {
        let ours = Settings::default().build().unwrap();
        let theirs = Runtime::new().unwrap();
        let cores = thread::available_parallelism().unwrap();
        let [ours, theirs] = [ours.handle(), theirs.handle()].map(|it| it.metrics().num_workers());
        println!("found {ours} {theirs} {cores}");
        return;
    }
    let test = "the_default_number_of_workers_is_tokios";
    let cores = thread::available_parallelism().unwrap();
    let unset = child(test, &[]).output().unwrap();
    assert!(
        text(&unset).contains(&format!("found {cores} {cores} {cores}")),
        "{unset:?}"
    );
    let five = child(test, &[])
        .env("TOKIO_WORKER_THREADS", "5")
        .output()
        .unwrap();
    assert!(
        text(&five).contains(&format!("found 5 5 {cores}")),
        "{five:?}"
    );
}

#[test]
fn a_bad_number_of_workers_is_an_error_where_tokio_panics() {
    if in_child() {
        let theirs = catch_unwind(|| drop(Runtime::new()));
        println!("tokio panics: {}", theirs.is_err());
        println!("found {}", Settings::default().build().unwrap_err());
        return;
    }
    let test = "a_bad_number_of_workers_is_an_error_where_tokio_panics";
    for bad in ["0", "", "-1", "four", " 4", "99999999999999999999"] {
        let output = child(test, &[])
            .env("TOKIO_WORKER_THREADS", bad)
            .output()
            .unwrap();
        let expected =
            format!("TOKIO_WORKER_THREADS must be a whole number from 1 up, not {bad:?}");
        assert!(text(&output).contains("tokio panics: true"), "{output:?}");
        assert!(text(&output).contains(&expected), "{output:?}");
    }
    let asked_for = Settings {
        workers: NonZeroUsize::new(1),
        ..Settings::default()
    };
    assert!(
        asked_for.build().is_ok(),
        "the environment only matters where nothing is asked for"
    );
}

#[test]
fn zero_workers_panic_in_tokio_and_cannot_be_written_here() {
    catch_unwind(|| drop(Builder::new_multi_thread().worker_threads(0).build())).unwrap_err();
    assert_eq!(NonZeroUsize::new(0), None); // all that `workers` takes
}

/// A limit on memory makes the system refuse some thread its stack. The stacks are large, so that
/// there is memory left for everything else.
#[cfg(target_os = "linux")]
const FEW_THREADS: [&str; 3] = [
    "sh",
    "-c",
    r#"ulimit -v 4000000; export RUST_MIN_STACK=67108864; exec "$0" "$@""#,
];

#[test]
#[cfg(target_os = "linux")]
fn workers_that_the_system_refuses_are_an_error() {
    if in_child() {
        let many = Settings {
            workers: NonZeroUsize::new(5_000),
            ..Settings::default()
        };
        println!("found {}", many.build().unwrap_err());
        println!("then {}", started(2, LIMIT).shutdown().is_ok());
        return;
    }
    let test = "workers_that_the_system_refuses_are_an_error";
    let [shell, option, script] = FEW_THREADS;
    let script = script.replace("exec", "exec timeout 20");
    let output = child(test, &[shell, option, &script]).output().unwrap();
    assert!(
        text(&output).contains("found cannot start 5000 worker threads"),
        "{output:?}"
    );
    assert!(text(&output).contains("then true"), "{output:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn the_builder_never_returns_when_the_system_refuses_a_worker() {
    if in_child() {
        drop(Builder::new_multi_thread().worker_threads(5_000).build());
        return;
    }
    let test = "the_builder_never_returns_when_the_system_refuses_a_worker";
    let mut child = child(test, &FEW_THREADS)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let panicked = lines.any(|line| line.unwrap().starts_with("OS can't spawn worker thread"));
    thread_sleep(5 * SHORT);
    let ended = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(panicked, "it did not panic");
    assert_eq!(ended, None, "it panicked and returned");
}

#[expect(
    clippy::disallowed_methods,
    reason = "no runtime here, and another process to watch"
)]
fn thread_sleep(duration: Duration) {
    thread::sleep(duration);
}

#[test]
fn a_thread_name_that_no_thread_can_have_is_an_error() {
    let settings = Settings {
        thread_name: "a\0b".to_owned(),
        ..Settings::default()
    };
    assert!(matches!(settings.build(), Err(BuildError::ThreadName(_))));
}

#[test]
fn enormous_limits_are_no_panic() {
    let settings = Settings {
        workers: NonZeroUsize::new(1),
        blocking_threads: NonZeroUsize::MAX,
        shutdown_limit: Duration::MAX,
        ..Settings::default()
    };
    let runtime = settings.build().unwrap();
    let answer = runtime
        .handle()
        .block_on(runtime.handle().spawn_blocking(|| 7));
    assert_eq!(answer.unwrap(), 7);
    runtime.shutdown().unwrap();
}

#[test]
fn shutdown_returns_by_its_deadline_with_a_blocking_closure_still_running() {
    let runtime = started(2, SHORT);
    let (release, told, job) = blocker(1);
    drop(runtime.handle().spawn_blocking(job));
    told.recv_timeout(LIMIT).unwrap();
    let began = Instant::now();
    assert_eq!(runtime.shutdown(), Err(StillRunning { threads: 1 }));
    assert!(began.elapsed() >= SHORT, "it did not wait");
    assert!(began.elapsed() < LIMIT, "it waited for the closure");
    drop(release);
    told.recv_timeout(LIMIT)
        .expect("what was left behind runs on");
}

#[test]
fn shutdown_returns_by_its_deadline_with_a_blocked_worker() {
    let runtime = started(2, SHORT);
    let (release, told, job) = blocker(1);
    drop(runtime.handle().spawn(async move { job() }));
    told.recv_timeout(LIMIT).unwrap();
    assert_eq!(runtime.shutdown(), Err(StillRunning { threads: 1 }));
    drop(release);
}

#[test]
fn shutdown_waits_no_longer_than_the_closure_runs() {
    let runtime = started(2, LIMIT);
    let (release, told, job) = blocker(1);
    drop(runtime.handle().spawn_blocking(job));
    told.recv_timeout(LIMIT).unwrap();
    drop(release);
    assert_eq!(runtime.shutdown(), Ok(()));
    told.try_recv().expect("shut down before the closure ended");
}

#[test]
fn shutdown_drops_tasks_where_they_wait() {
    let runtime = started(2, LIMIT);
    let (alive, gone) = sync_channel::<()>(1);
    drop(runtime.handle().spawn(async move {
        std::future::pending::<()>().await;
        alive.send(()).unwrap();
    }));
    assert_eq!(runtime.shutdown(), Ok(()));
    assert_eq!(
        gone.try_recv(),
        Err(TryRecvError::Disconnected),
        "the task lives on"
    );
}

#[test]
fn queued_closures_still_run_at_shutdown_on_the_former_workers() {
    let runtime = started(1, LIMIT);
    let worker = runtime.handle().spawn(async { thread_name() });
    let worker = runtime.handle().block_on(worker).unwrap();
    let (first_release, first, first_job) = blocker(1);
    let (second_release, second, second_job) = blocker(2);
    drop(runtime.handle().spawn_blocking(first_job));
    drop(runtime.handle().spawn_blocking(second_job));
    first.recv_timeout(LIMIT).unwrap();
    second.recv_timeout(LIMIT).unwrap();
    let (ran, names) = sync_channel(100);
    for _ in 0..100 {
        let ran = ran.clone();
        drop(
            runtime
                .handle()
                .spawn_blocking(move || ran.send(thread_name())),
        );
    }
    drop(ran);
    names
        .recv_timeout(SHORT)
        .expect_err("a queued closure ran before the shutdown");
    // Both blocking threads are busy until the queue is empty: only the worker can have run it.
    let releasing = thread::spawn(move || {
        let names: Vec<String> = names.into_iter().collect();
        drop((first_release, second_release));
        names
    });
    assert_eq!(runtime.shutdown(), Ok(()));
    let names = releasing.join().unwrap();
    assert_eq!(names.len(), 100);
    assert_eq!(BTreeSet::from_iter(names), BTreeSet::from([worker]));
}

#[test]
fn dropping_it_keeps_the_deadline_and_warns() {
    let (release, told, job) = blocker(1);
    let log = Capture::of("runtime::");
    let _guard = log.start();
    let runtime = started(2, SHORT);
    drop(runtime.handle().spawn_blocking(job));
    told.recv_timeout(LIMIT).unwrap();
    drop(runtime);
    drop(started(2, LIMIT)); // nothing is left, nothing is said
    drop(release);
    assert_eq!(
        log.lines(),
        ["WARN runtime dropped, 1 of the runtime's threads still run threads=1"]
    );
}

#[tokio::test]
async fn inside_of_a_runtime_it_is_dropped_without_a_panic_or_a_wait() {
    let (release, told, job) = blocker(1);
    let runtime = started(2, Duration::MAX);
    drop(runtime.handle().spawn_blocking(job));
    told.recv_timeout(LIMIT).unwrap();
    assert!(runtime.shutdown().is_err());
    drop(started(2, Duration::MAX));
    drop(release);
}

#[tokio::test]
async fn tokios_runtime_panics_when_dropped_inside_of_another() {
    let runtime = Runtime::new().unwrap();
    catch_unwind(AssertUnwindSafe(|| drop(runtime))).unwrap_err();
}

#[test]
fn dropping_tokios_runtime_waits_for_a_closure_that_never_returns() {
    let runtime = Runtime::new().unwrap();
    let (release, told, job) = blocker(1);
    drop(runtime.spawn_blocking(job));
    told.recv_timeout(LIMIT).unwrap();
    let (dropping, dropped) = sync_channel(1);
    let thread = thread::spawn(move || {
        drop(runtime);
        dropping.send(()).unwrap();
    });
    dropped
        .recv_timeout(5 * SHORT)
        .expect_err("it did not wait");
    drop(release);
    dropped.recv_timeout(LIMIT).unwrap();
    thread.join().unwrap();
}
