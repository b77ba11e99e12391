//! What it does to block on a future where a runtime is at work.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use antipatterns::nested_block_on::{with_current_handle, with_foreign_executor, with_new_runtime};
use runtime::sync_bridge::{AsyncThread, call_blocking};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

const LONG: Duration = Duration::from_secs(60);
const GIVES_UP: Duration = Duration::from_secs(2);
const HUNG: i32 = 42;
const NESTED: &str = "Cannot start a runtime from within a runtime. This happens because a \
    function (like `block_on`) attempted to block the current thread while the thread is being used \
    to drive asynchronous tasks.";
const NO_REACTOR: &str =
    "there is no reactor running, must be called from the context of a Tokio 1.x runtime";

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn workers(number: usize) -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(number).enable_all().build().unwrap()
}

/// The message of the panic.
fn panics<T>(call: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(call))
        .err()
        .expect("no panic");
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap()
}

#[test]
fn in_a_plain_thread_as_in_a_unit_test_it_works() {
    assert_eq!(with_new_runtime(async { 7 }), 7);
    assert_eq!(with_foreign_executor(async { 7 }), 7);
}

#[test]
fn harm_a_runtime_in_a_runtime_panics_wherever_it_is() {
    for runtime in [current_thread(), workers(2)] {
        for call in [with_new_runtime, with_current_handle] {
            let message = runtime.block_on(async { panics(|| call(std::future::ready(7))) });
            assert!(message.starts_with(NESTED), "{message}");
            let task = runtime.spawn(async move { panics(|| call(std::future::ready(7))) });
            let message = runtime.block_on(task).unwrap();
            assert!(message.starts_with(NESTED), "{message}");
        }
    }
}

#[test]
fn harm_a_plain_thread_has_no_current_handle_and_no_timers() {
    let message = panics(|| with_current_handle(async { 7 }));
    assert!(message.starts_with(NO_REACTOR), "{message}");
    let timer = async { sleep(Duration::from_millis(1)).await };
    let message = panics(|| with_foreign_executor(timer));
    assert!(message.starts_with(NO_REACTOR), "{message}");
}

/// Whether `work`, begun by a task on this runtime, hangs. A thread that hangs cannot be ended, so
/// it runs in a process of its own. `test` is the caller's name.
fn hangs<F: Future + 'static>(test: &str, runtime: Runtime, work: fn() -> F) -> bool {
    if std::env::var_os("NESTED_BLOCK_ON").is_some() {
        let task = runtime.spawn(async move {
            std::thread::spawn(|| {
                let (_kept, silence) = sync_channel::<()>(1);
                silence.recv_timeout(GIVES_UP).ok();
                std::process::exit(HUNG);
            });
            with_foreign_executor(async { work().await });
        });
        runtime.block_on(task).unwrap();
        std::process::exit(0);
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]);
    child.env("NESTED_BLOCK_ON", "1");
    let status = child.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let code = status.unwrap().code();
    assert!(code == Some(0) || code == Some(HUNG), "{code:?}");
    code == Some(HUNG)
}

#[test]
fn harm_a_foreign_executor_waits_for_the_timers_of_its_own_thread() {
    let test = "harm_a_foreign_executor_waits_for_the_timers_of_its_own_thread";
    let timer = || sleep(Duration::from_millis(1));
    assert!(hangs(test, current_thread(), timer));
}

#[test]
fn harm_a_foreign_executor_waits_for_the_task_it_spawned_though_three_workers_are_idle() {
    let test =
        "harm_a_foreign_executor_waits_for_the_task_it_spawned_though_three_workers_are_idle";
    assert!(hangs(test, workers(4), || tokio::spawn(async {})));
}

#[test]
fn mended_the_same_calls_work_from_a_plain_thread_and_from_a_task() {
    let bridge = Arc::new(AsyncThread::start("bridge").unwrap());
    let call = move || {
        let work = async {
            sleep(Duration::from_millis(1)).await;
            tokio::spawn(async { 7 }).await.unwrap()
        };
        bridge.call(LONG, work).unwrap()
    };
    assert_eq!(call(), 7);
    for runtime in [current_thread(), workers(1)] {
        let call = call.clone();
        let task = runtime.spawn(async move { call() });
        assert_eq!(runtime.block_on(task).unwrap(), 7);
        let call = call_blocking(|reentry| reentry.wait(LONG, tokio::spawn(async { 7 })));
        assert_eq!(runtime.block_on(call).unwrap().unwrap().unwrap(), 7);
    }
}
