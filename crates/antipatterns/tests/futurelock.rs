//! Two futures of one task, and one lock.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use antipatterns::futurelock::{fetch_and_merge, save_and_report};
use sync::async_lock::{AsyncLock, Busy};
use tokio::select;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A save of so many milliseconds, reported each ten of them; the reports, or that it hangs.
async fn reports(state: &Mutex<u32>, takes: u32) -> Option<usize> {
    let mut reports = 0;
    let save = async |state: &mut u32| {
        sleep(takes * MS).await;
        *state += 1;
    };
    let saved = save_and_report(state, save, 10 * MS, |_| reports += 1);
    timeout(HOUR, saved).await.ok()?;
    Some(reports)
}

#[tokio::test(start_paused = true)]
async fn harm_a_report_during_the_save_hangs_and_everybody_behind_it() {
    let state = Arc::new(Mutex::new(0));
    let saving = Arc::clone(&state);
    let hung = tokio::spawn(async move { reports(&saving, 25).await });
    sleep(HOUR / 2).await;
    timeout(HOUR / 4, state.lock()).await.unwrap_err();
    assert_eq!(hung.await.unwrap(), None);
    assert_eq!(*state.lock().await, 0, "nothing was saved");
}

#[tokio::test(start_paused = true)]
async fn harm_to_stand_in_the_queue_before_the_branch_is_enough() {
    let state = Arc::new(Mutex::new(0));
    let other = Arc::clone(&state).lock_owned().await;
    tokio::spawn(async move {
        sleep(25 * MS).await; // another task, which is done with it in time
        drop(other);
    });
    assert_eq!(reports(&state, 1).await, None);
}

#[tokio::test(start_paused = true)]
async fn harm_a_loop_over_buffered_futures_hangs_at_its_first_merge() {
    let state = Mutex::new(0);
    let fetch = async |input: u32, _: &u32| {
        sleep(MS).await;
        input
    };
    let one = fetch_and_merge(&state, vec![1], fetch, |sum, input| *sum += input);
    timeout(HOUR, one).await.expect("with one it works");
    let two = fetch_and_merge(&state, vec![1, 1], fetch, |sum, input| *sum += input);
    timeout(HOUR, two).await.unwrap_err();
    assert_eq!(*state.lock().await, 1);
}

#[tokio::test(start_paused = true)]
async fn mended_the_save_goes_on_in_its_task_and_the_report_has_a_limit() {
    let state = AsyncLock::new(0);
    let started = Instant::now();
    let saving = state.clone();
    let mut saving = AbortOnDropHandle::new(tokio::spawn(async move {
        let save = async |state: &mut u32| {
            sleep(25 * MS).await;
            *state += 1;
            Ok::<_, Infallible>(())
        };
        saving.update(HOUR, save).await
    }));
    let mut reports = Vec::new();
    loop {
        select! {
            saved = &mut saving => break saved.unwrap().unwrap(),
            () = sleep(10 * MS) => reports.push(state.draft(8 * MS).await.map(|state| *state)),
        }
    }
    assert_eq!(started.elapsed(), 25 * MS);
    assert!(
        reports.contains(&Err(Busy { waited: 8 * MS })),
        "{reports:?}"
    );
    assert_eq!(*state.draft(MS).await.unwrap(), 1, "saved");
}
