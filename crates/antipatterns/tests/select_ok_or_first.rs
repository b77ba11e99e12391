//! Who wins a race in which one refuses.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use antipatterns::select_ok_or_first::{quicker, quicker_answer};
use futures_util::FutureExt;
use select::first_success::first_success;
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

type Answer = Result<u32, &'static str>;

async fn ask(takes: Duration, answer: Answer) -> Answer {
    sleep(takes).await;
    answer
}

async fn refuses() -> Answer {
    ask(MS, Err("connection refused")).await
}

async fn answers() -> Answer {
    ask(20 * MS, Ok(7)).await
}

#[tokio::test(start_paused = true)]
async fn harm_one_of_two_is_down_and_all_requests_fail() {
    let mut failed = 0;
    for _ in 0..100 {
        failed += u32::from(quicker(refuses(), answers()).await.is_err());
    }
    assert_eq!(failed, 100);
    assert_eq!(answers().await, Ok(7), "alone it would have answered");
}

#[tokio::test(start_paused = true)]
async fn harm_with_patterns_it_panics_when_both_fail() {
    assert_eq!(quicker_answer(refuses(), answers()).await, 7);
    let late = ask(20 * MS, Err("timed out"));
    let race = AssertUnwindSafe(quicker_answer(refuses(), late)).catch_unwind();
    let panic = race.await.unwrap_err();
    let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
    let expected = "all branches are disabled and there is no else branch";
    assert_eq!(message.as_deref(), Some(expected));
}

#[tokio::test(start_paused = true)]
async fn mended_the_answer_wins_and_errors_are_all_told() {
    let started = Instant::now();
    let race = [refuses().boxed(), answers().boxed()];
    let won = first_success(race, Duration::ZERO).await.unwrap();
    assert_eq!((won.attempt, won.value), (1, 7));
    assert_eq!(won.failed, [(0, "connection refused")]);
    assert_eq!(started.elapsed(), 20 * MS);

    let late = ask(20 * MS, Err("timed out"));
    let race = [refuses().boxed(), late.boxed()];
    let failed = first_success(race, Duration::ZERO).await.unwrap_err();
    assert_eq!(failed.errors, ["connection refused", "timed out"]);
}
