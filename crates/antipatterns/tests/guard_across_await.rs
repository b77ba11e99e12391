//! What a guard that lives across an await does to the thread.
//!
//! A thread that hangs cannot be ended, so each of these runs in a process of its own.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use antipatterns::guard_across_await::Tokens;
use sync::short_lock::{Poisoned, Shared};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, yield_now};
use tokio::time::{sleep, timeout};

const GIVES_UP: Duration = Duration::from_secs(2);
const HUNG: i32 = 42;

/// From now on the process has a moment to come to its end, or is ended as one that hangs.
fn must_end() {
    std::thread::spawn(|| {
        let (_kept, silence) = sync_channel::<()>(1);
        silence.recv_timeout(GIVES_UP).ok();
        std::process::exit(HUNG);
    });
}

/// Whether `job`, which calls [`must_end`] at some point, then hangs. `test` is the caller's name.
fn hangs(test: &str, job: impl FnOnce()) -> bool {
    if std::env::var_os("GUARD_ACROSS_AWAIT").is_some() {
        job();
        std::process::exit(0);
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]);
    child.env("GUARD_ACROSS_AWAIT", "1");
    let status = child.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let code = status.unwrap().code();
    assert!(code == Some(0) || code == Some(HUNG), "{code:?}");
    code == Some(HUNG)
}

/// The first caller is here with the guard.
async fn fetch() -> String {
    must_end();
    yield_now().await;
    "token".to_owned()
}

async fn two(tokens: &Tokens) -> (String, String) {
    tokio::join!(tokens.token(fetch), tokens.token(fetch))
}

#[tokio::test]
async fn one_caller_at_a_time_has_its_token() {
    let tokens = Tokens::default();
    let fetch = async || "token".to_owned();
    assert_eq!(tokens.token(fetch).await, "token");
    let fetch = async || panic!("it is there already");
    assert_eq!(tokens.token(fetch).await, "token");
}

#[test]
fn harm_two_callers_in_one_join_hang_with_timers_and_limits() {
    let test = "harm_two_callers_in_one_join_hang_with_timers_and_limits";
    assert!(hangs(test, || {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let tokens = Tokens::default();
        runtime.block_on(async {
            let timer = tokio::spawn(async {
                sleep(Duration::from_millis(1)).await;
                std::process::exit(0);
            });
            let limit = Duration::from_millis(5);
            drop(timeout(limit, two(&tokens)).await);
            timer.await.unwrap();
        });
    }));
}

#[test]
fn harm_four_workers_do_not_help() {
    assert!(hangs("harm_four_workers_do_not_help", || {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(4).build().unwrap();
        runtime.block_on(two(&Tokens::default()));
    }));
}

#[test]
fn harm_two_local_tasks_hang() {
    assert!(hangs("harm_two_local_tasks_hang", || {
        let runtime = Builder::new_current_thread().build().unwrap();
        let tokens = std::rc::Rc::new(Tokens::default());
        let local = LocalSet::new();
        for _ in 0..2 {
            let tokens = tokens.clone();
            local.spawn_local(async move { tokens.token(fetch).await });
        }
        runtime.block_on(local);
    }));
}

#[test]
fn mended_two_callers_on_one_thread_have_their_tokens() {
    let cached = Shared::new(None::<u32>);
    let fetched = Shared::new(0);
    let token = async || {
        if let Some(token) = cached.with(|cached| *cached)? {
            return Ok::<_, Poisoned>(token);
        }
        let token = fetched.with(|fetched| {
            *fetched += 1;
            *fetched
        })?;
        yield_now().await;
        cached.with(|cached| *cached.get_or_insert(token))
    };
    let runtime = Builder::new_current_thread().build().unwrap();
    let tokens = runtime.block_on(async { tokio::try_join!(token(), token()) });
    let tokens = tokens.unwrap();
    assert_eq!(tokens.0, tokens.1, "the first that came back is used");
    assert_eq!(fetched.with(|fetched| *fetched), Ok(2), "but both fetched");
}
