//! What the retry budget promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::sync::Arc;
use std::time::Duration;

use retry::retry_budget::{Counts, RetryBudget, Settings};
use tokio::time::advance;

const SETTINGS: Settings = Settings {
    percent: 10,
    per_second: 0,
    saved: 20,
};

/// How many retries it allows now.
fn allowed(budget: &RetryBudget) -> usize {
    (0..).take_while(|_| budget.try_retry()).count()
}

fn empty(settings: Settings) -> RetryBudget {
    let budget = RetryBudget::new(settings);
    assert_eq!(allowed(&budget), settings.saved as usize);
    budget
}

/// Calls that reach the server when each of `requests` fails and may be tried three times.
fn calls_in_an_outage(requests: usize, may_retry: impl Fn() -> bool) -> usize {
    let retries = |_| (0..2).take_while(|_| may_retry()).count();
    requests + (0..requests).map(retries).sum::<usize>()
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_multiply_the_load() {
    let budget = RetryBudget::new(SETTINGS);
    let with_budget = calls_in_an_outage(10_000, || budget.try_retry());
    assert_eq!(calls_in_an_outage(10_000, || true), 30_000);
    assert_eq!(
        with_budget, 10_020,
        "no request was counted: what was saved, and no more"
    );

    let budget = RetryBudget::new(SETTINGS);
    let mut calls = 0;
    for _ in 0..10_000 {
        budget.request();
        calls += calls_in_an_outage(1, || budget.try_retry());
    }
    // A tenth more, and what was saved; the first request found it full.
    assert_eq!(calls, 11_019);
}

#[tokio::test(start_paused = true)]
async fn while_few_requests_fail_each_is_tried_again() {
    let budget = RetryBudget::new(SETTINGS);
    for request in 0..10_000 {
        budget.request();
        if request % 20 == 0 {
            assert!(budget.try_retry(), "request {request}");
        }
    }
    let expected = Counts {
        requests: 10_000,
        allowed: 500,
        refused: 0,
    };
    assert_eq!(budget.counts(), expected);
}

#[tokio::test(start_paused = true)]
async fn so_many_requests_earn_a_retry_and_not_one_fewer() {
    for (percent, requests) in [(10, 10), (1, 100), (30, 4), (100, 1)] {
        let budget = empty(Settings {
            percent,
            ..SETTINGS
        });
        for _ in 1..requests {
            budget.request();
            assert!(!budget.try_retry(), "{percent} %");
        }
        budget.request();
        assert!(budget.try_retry(), "{percent} %");
        assert!(!budget.try_retry(), "{percent} %");
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_a_hundred_percent_are_several_retries_for_each_request() {
    let budget = empty(Settings {
        percent: 250,
        ..SETTINGS
    });
    budget.request();
    assert_eq!(allowed(&budget), 2);
    budget.request();
    assert_eq!(allowed(&budget), 3);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_saved_than_the_settings_say() {
    let budget = RetryBudget::new(SETTINGS);
    for _ in 0..1_000_000 {
        budget.request();
    }
    assert_eq!(allowed(&budget), 20);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_saves_nothing_still_adds_shares_up() {
    let budget = empty(Settings {
        saved: 0,
        ..SETTINGS
    });
    for _ in 0..1000 {
        budget.request();
    }
    assert_eq!(allowed(&budget), 1);
}

#[tokio::test(start_paused = true)]
async fn time_earns_retries_for_a_client_of_few_requests() {
    let budget = empty(Settings {
        percent: 0,
        per_second: 2,
        ..SETTINGS
    });
    advance(Duration::from_millis(499)).await;
    assert!(!budget.try_retry());
    advance(Duration::from_millis(1)).await;
    assert!(budget.try_retry(), "the look before lost nothing");
    assert!(!budget.try_retry());
    advance(Duration::from_secs(3)).await;
    assert_eq!(allowed(&budget), 6);
    advance(Duration::from_secs(1_000_000_000)).await;
    assert_eq!(allowed(&budget), 20);
}

#[tokio::test(start_paused = true)]
async fn without_a_share_and_without_time_nothing_comes_back() {
    let budget = empty(Settings {
        percent: 0,
        ..SETTINGS
    });
    budget.request();
    advance(Duration::from_secs(1_000_000)).await;
    assert_eq!(allowed(&budget), 0);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted() {
    let budget = empty(SETTINGS);
    assert!(!budget.try_retry());
    let counts = budget.counts();
    // The first refusal told `empty` that it was empty.
    assert_eq!((counts.allowed, counts.refused), (20, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_on_all_threads_share_one_budget() {
    let budget = Arc::new(RetryBudget::new(SETTINGS));
    let tasks = (0..100).map(|_| {
        let budget = Arc::clone(&budget);
        tokio::spawn(async move {
            budget.request();
            allowed(&budget)
        })
    });
    let mut sum = 0;
    for task in tasks.collect::<Vec<_>>() {
        sum += task.await.unwrap();
    }
    assert!(
        (20..=30).contains(&sum),
        "{sum}: 20 saved, 10 earned of which some had no room"
    );
}

#[tokio::test(start_paused = true)]
async fn harm_retries_that_are_counted_as_requests_pay_for_further_ones() {
    let budget = RetryBudget::new(Settings {
        percent: 50,
        saved: 1,
        ..SETTINGS
    });
    let mut calls = 0;
    for _ in 0..1000 {
        let tries = (0..10).take_while(|tried| {
            budget.request(); // each try
            *tried == 0 || budget.try_retry()
        });
        calls += tries.count();
    }
    assert!(calls > 1900, "{calls}: half as much again was meant");
}

#[tokio::test(start_paused = true)]
async fn harm_a_budget_for_each_request_limits_nothing() {
    let calls = (0..1000).map(|_| {
        let budget = RetryBudget::new(SETTINGS);
        budget.request();
        calls_in_an_outage(1, || budget.try_retry())
    });
    assert_eq!(calls.sum::<usize>(), 3000);
}

#[tokio::test(start_paused = true)]
async fn harm_three_services_behind_one_another_multiply_their_shares() {
    fn serve(budgets: &[RetryBudget]) -> usize {
        let [budget, behind @ ..] = budgets else {
            return 1; // the last one, which fails
        };
        budget.request();
        let mut calls = serve(behind);
        if budget.try_retry() {
            calls += serve(behind);
        }
        calls
    }
    let share = Settings {
        saved: 0,
        ..SETTINGS
    };
    let budgets = [(); 3].map(|()| RetryBudget::new(share));
    let calls: usize = (0..1000).map(|_| serve(&budgets)).sum();
    assert_eq!(calls, 1331);
}
