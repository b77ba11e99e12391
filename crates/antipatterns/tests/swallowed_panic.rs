//! What becomes of errors and panics of tasks whose results are thrown away.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use antipatterns::swallowed_panic::{save_all, total};
use errors::task_errors::{TaskError, join};

/// Saves record 3 not for want of room, and record 7 not for a mistake in the program.
async fn save(record: u32, saved: Arc<AtomicUsize>) -> Result<(), &'static str> {
    tokio::task::yield_now().await;
    assert!(record != 7, "no such column");
    if record == 3 {
        return Err("the disk is full");
    }
    saved.fetch_add(1, Relaxed);
    Ok(())
}

async fn balance(of: u32) -> Result<u64, &'static str> {
    match of {
        1 => Ok(100),
        2 => Ok(200),
        _ => panic!("an account of 300 in another currency"),
    }
}

#[tokio::test]
async fn harm_two_of_ten_records_are_not_saved_and_nobody_is_told() {
    let saved = Arc::new(AtomicUsize::new(0));
    let () = save_all((0..10).map(|record| save(record, Arc::clone(&saved)))).await;
    assert_eq!(saved.load(Relaxed), 8);
}

#[tokio::test]
async fn harm_a_balance_that_panics_counts_as_nothing() {
    assert_eq!(total([1, 2, 3].map(balance)).await, 300, "they hold 600");
}

#[tokio::test]
async fn mended_each_record_that_was_not_saved_says_why() {
    let saved = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..10)
        .map(|record| tokio::spawn(save(record, Arc::clone(&saved))))
        .collect();
    let mut failed = Vec::new();
    for (record, task) in tasks.into_iter().enumerate() {
        if let Err(error) = join(task).await {
            failed.push((record, error));
        }
    }
    let message = "no such column".to_owned();
    let expected = [
        (3, TaskError::Failed("the disk is full")),
        (7, TaskError::Panicked { message }),
    ];
    assert_eq!(failed, expected);
    assert_eq!(saved.load(Relaxed), 8);
}

#[tokio::test]
async fn mended_there_is_no_total_without_all_balances() {
    let tasks = [1, 2, 3].map(balance).map(tokio::spawn);
    let mut total = Ok(0);
    for task in tasks {
        total = match (total, join(task).await) {
            (Ok(total), Ok(balance)) => Ok(total + balance),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
    }
    let error = total.unwrap_err();
    let message = "the task panicked: an account of 300 in another currency";
    assert_eq!(error.to_string(), message);
}
