//! What the current-thread runtime promises. Where real threads block, the tests wait for what
//! happens, with a limit that only a failure reaches.
#![cfg(test)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::future::{pending, ready};
use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use runtime::current_thread::{RunError, run};
use testing::capture_events::Capture;
use tokio::io::AsyncReadExt;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, spawn_blocking, spawn_local};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

#[test]
fn local_tasks_share_rc_state_on_the_calling_thread() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let here = thread::current().id();
    let total = run(LIMIT, async {
        let tasks = [1, 2, 3].map(|number| {
            let seen = Rc::clone(&seen);
            spawn_local(async move {
                sleep(Duration::from_millis(1)).await;
                seen.borrow_mut().push(thread::current().id());
                Rc::new(number)
            })
        });
        let mut total = 0;
        for task in tasks {
            total += *task.await.unwrap();
        }
        total
    });
    assert_eq!(total.unwrap(), 6);
    assert_eq!(*seen.borrow(), [here; 3]);
}

#[test]
fn the_future_may_borrow() {
    let text = String::from("borrowed");
    assert_eq!(run(LIMIT, async { text.len() }).unwrap(), 8);
}

#[test]
fn a_local_set_runs_local_tasks_in_a_runtime_that_is_there_already() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let here = thread::current().id();
    let there = runtime.block_on(LocalSet::new().run_until(async move {
        let shared = Rc::new(thread::current().id());
        spawn_local(async move { (*shared, thread::current().id()) })
            .await
            .unwrap()
    }));
    assert_eq!(there, (here, here));
}

#[tokio::test]
async fn spawn_local_panics_on_a_runtime_that_is_not_local() {
    let panic = catch_unwind(|| spawn_local(ready(()))).unwrap_err();
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    assert_eq!(
        message,
        Some("`spawn_local` called from outside of a `task::LocalSet` or `runtime::LocalRuntime`")
    );
}

#[test]
fn ready_branches_of_a_select_run_in_no_fixed_order() {
    let first = run(LIMIT, async {
        let mut first = BTreeMap::new();
        for _ in 0..1_000 {
            let name = tokio::select! {
                () = ready(()) => "upper",
                () = ready(()) => "lower",
            };
            *first.entry(name).or_insert(0) += 1;
        }
        first
    });
    // Each 500 times on average; fewer than 300 has a chance of less than one in 10^36.
    assert!(
        first
            .unwrap()
            .values()
            .filter(|times| **times > 300)
            .count()
            == 2
    );
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the harm is shown")]
fn blocking_in_one_task_delays_the_timers_of_all() {
    let late = run(LIMIT, async {
        let began = Instant::now();
        let timer = spawn_local(async move {
            sleep(SHORT / 100).await;
            began.elapsed()
        });
        tokio::task::yield_now().await; // the timer runs
        thread::sleep(SHORT);
        timer.await.unwrap()
    });
    assert!(late.unwrap() >= SHORT);
}

#[test]
fn the_attribute_can_make_a_local_runtime_too() {
    #[tokio::main(flavor = "local")]
    async fn by_attribute() -> i32 {
        let shared = Rc::new(7);
        spawn_local(async move { *shared }).await.unwrap()
    }
    assert_eq!(by_attribute(), 7);
}

#[test]
fn inside_of_a_runtime_it_is_an_error() {
    let runtime = Runtime::new().unwrap();
    let nested = || run(LIMIT, ready(()));
    let refused = |result| matches!(result, Err(RunError::InsideRuntime));
    assert!(refused(runtime.block_on(async { nested() })));
    assert!(refused(run(LIMIT, async { nested() }).unwrap()));
    assert!(refused(
        runtime.block_on(runtime.spawn_blocking(nested)).unwrap()
    ));
    let _entered = runtime.enter();
    assert!(refused(nested()));
}

#[test]
fn tasks_end_with_main() {
    let (alive, gone) = sync_channel::<()>(1);
    run(LIMIT, async {
        let task = spawn_local(async move {
            pending::<()>().await;
            alive.send(()).unwrap();
        });
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
    })
    .unwrap();
    assert_eq!(
        gone.try_recv(),
        Err(TryRecvError::Disconnected),
        "the task lives on"
    );
}

#[test]
fn it_leaves_within_the_limit_though_a_closure_blocks_and_warns() {
    let log = Capture::of("runtime::");
    let _guard = log.start();
    let (release, released) = sync_channel::<()>(0);
    let began = Instant::now();
    run(SHORT, block_until(released)).unwrap();
    assert!(began.elapsed() >= SHORT && began.elapsed() < LIMIT);
    run(LIMIT, async { spawn_blocking(|| ()).await.unwrap() }).unwrap(); // nothing to warn of
    drop(release);
    assert_eq!(
        log.lines(),
        ["WARN left the runtime with closures that still block threads=1"]
    );
}

#[test]
fn a_panic_of_main_comes_out_within_the_limit_too() {
    let (release, released) = sync_channel::<()>(0);
    let began = Instant::now();
    let panicking = run_and_panic(released);
    assert_eq!(panicking, Some("main is broken"));
    assert!(began.elapsed() < LIMIT, "it waited for the closure");
    drop(release);
}

fn run_and_panic(released: Receiver<()>) -> Option<&'static str> {
    let panic = catch_unwind(AssertUnwindSafe(|| {
        run(SHORT, async {
            block_until(released).await;
            panic!("main is broken");
        })
    }));
    panic.unwrap_err().downcast_ref::<&str>().copied()
}

/// Starts a closure that blocks until the sender is gone, or for `LIMIT`.
async fn block_until(released: Receiver<()>) {
    let (tell, told) = tokio::sync::oneshot::channel();
    drop(spawn_blocking(move || {
        tell.send(()).unwrap();
        released.recv_timeout(LIMIT)
    }));
    told.await.unwrap();
}

#[test]
fn a_closure_that_waits_for_a_task_to_go_away_costs_the_whole_limit() {
    let began = Instant::now();
    run(5 * SHORT, async {
        let (alive, gone) = sync_channel::<()>(0);
        drop(spawn_local(async move {
            pending::<()>().await;
            drop(alive);
        }));
        tokio::task::yield_now().await;
        block_until(gone).await;
    })
    .unwrap();
    assert!(began.elapsed() >= 5 * SHORT);
}

/// A tool that reads standard input in vain and has other work, which ends.
#[test]
fn a_read_of_standard_input_does_not_keep_the_tool_but_keeps_a_dropped_runtime() {
    async fn tool() {
        let reading = timeout(SHORT, tokio::io::stdin().read_u8()).await;
        println!("\nread: {}", reading.is_ok());
    }
    match env::var("IN_CHILD").as_deref() {
        Ok("recipe") => {
            run(SHORT, tool()).unwrap();
            return println!("left");
        }
        Ok(_) => {
            Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(tool());
            return println!("left");
        }
        Err(_) => {}
    }
    for (way, ends) in [("recipe", true), ("drop", false)] {
        let mut child = this_test_in_a_child(way);
        let output = BufReader::new(child.stdout.take().unwrap());
        let (lines, printed) = sync_channel(100);
        let reading = thread::spawn(move || {
            for line in output.lines() {
                lines.send(line.unwrap()).unwrap();
            }
        });
        let wait_for = |text, limit| loop {
            match printed.recv_timeout(limit) {
                Ok(line) if line == text => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        wait_for("read: false", LIMIT).unwrap();
        let left = wait_for("left", if ends { LIMIT } else { 10 * SHORT });
        assert_eq!(
            left,
            if ends {
                Ok(())
            } else {
                Err(RecvTimeoutError::Timeout)
            },
            "{way}"
        );
        if !ends {
            child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            wait_for("left", LIMIT).unwrap();
        }
        assert!(child.wait().unwrap().success());
        reading.join().unwrap();
    }
}

fn this_test_in_a_child(way: &str) -> Child {
    let test = "a_read_of_standard_input_does_not_keep_the_tool_but_keeps_a_dropped_runtime";
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("IN_CHILD", way)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}
