//! That no way for a task to end is taken for another.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::pending;
use std::panic::{panic_any, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use errors::task_errors::{TaskError, flatten, join};
use testing::every_await_point::{Outcome, every_await_point};
use thiserror::Error;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no such user: {0}")]
struct NoUser(u32);

type Answer = Result<&'static str, NoUser>;

#[tokio::test(start_paused = true)]
async fn a_value_and_an_error_are_the_tasks_own() {
    assert_eq!(
        join(tokio::spawn(async { Answer::Ok("Ann") })).await,
        Ok("Ann")
    );
    let failed = join(tokio::spawn(async { Answer::Err(NoUser(7)) })).await;
    assert_eq!(failed, Err(TaskError::Failed(NoUser(7))));
    let error = failed.unwrap_err();
    assert_eq!(error.to_string(), "no such user: 7");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_told_with_its_message_whatever_its_payload() {
    let panics: [(JoinHandle<Answer>, &str); 4] = [
        (tokio::spawn(async { panic!("fixed") }), "fixed"),
        (tokio::spawn(async { panic!("user {}", 7) }), "user 7"),
        (tokio::spawn(async { panic_any(7) }), "no message"),
        (
            tokio::spawn(async { resume_unwind(Box::new(String::from("again"))) }),
            "again",
        ),
    ];
    for (task, expected) in panics {
        let message = expected.to_owned();
        assert_eq!(join(task).await, Err(TaskError::Panicked { message }));
    }
    let error = TaskError::<NoUser>::Panicked {
        message: "fixed".to_owned(),
    };
    assert_eq!(error.to_string(), "the task panicked: fixed");
}

#[tokio::test(start_paused = true)]
async fn an_abort_is_a_cancellation() {
    let task = tokio::spawn(async { pending::<Answer>().await });
    task.abort();
    assert_eq!(join(task).await, Err(TaskError::Cancelled));
}

#[test]
fn a_runtime_that_shuts_down_cancels() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let task = runtime.spawn(pending::<Answer>());
    drop(runtime);
    let runtime = Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(join(task)), Err(TaskError::Cancelled));
}

#[test]
fn harm_an_unwrap_of_a_cancelled_task_is_a_panic() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let task = runtime.spawn(pending::<Answer>());
    drop(runtime);
    let other = Builder::new_current_thread().build().unwrap();
    let waits = other.spawn(async move { drop(task.await.unwrap()) });
    assert!(other.block_on(waits).unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn harm_a_question_mark_after_the_await_leaves_the_tasks_error_behind() {
    async fn wait(task: JoinHandle<Answer>) -> Result<(), tokio::task::JoinError> {
        drop(task.await?);
        Ok(())
    }
    async fn wait_flat(task: JoinHandle<Answer>) -> Result<(), TaskError<NoUser>> {
        join(task).await?;
        Ok(())
    }
    let fails = || tokio::spawn(async { Answer::Err(NoUser(7)) });
    assert!(
        wait(fails()).await.is_ok(),
        "and nobody has heard of user 7"
    );
    assert_eq!(wait_flat(fails()).await, Err(TaskError::Failed(NoUser(7))));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_wait_aborts_the_task_at_every_point() {
    let points = every_await_point(
        LIMIT,
        async || Arc::new(AtomicU32::new(0)),
        async |count| {
            let counts = Arc::clone(count);
            let task = tokio::spawn(async move {
                sleep(MS).await;
                counts.fetch_add(1, Ordering::Relaxed);
                Answer::Ok("counted")
            });
            join(task).await
        },
        async |count, outcome| {
            if let Outcome::Completed(result) = outcome {
                assert_eq!(result, Ok("counted"));
            }
            let now = count.load(Ordering::Relaxed);
            sleep(2 * MS).await;
            assert_eq!(count.load(Ordering::Relaxed), now, "it ran on");
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test(start_paused = true)]
async fn harm_a_bare_handle_lets_the_task_run_on_when_its_wait_is_dropped() {
    let count = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&count);
    let task = tokio::spawn(async move {
        sleep(2 * MS).await;
        counts.fetch_add(1, Ordering::Relaxed);
    });
    timeout(MS, task).await.unwrap_err();
    sleep(2 * MS).await;
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_error_goes_where_errors_go() {
    fn any_error(_: impl std::error::Error + Send + Sync + 'static) {}
    any_error(TaskError::Failed(NoUser(7)));

    async fn outer() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        join(tokio::spawn(async { Answer::Err(NoUser(7)) })).await?;
        Ok(())
    }
    let error = tokio::spawn(outer()).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "no such user: 7");
}

#[tokio::test(start_paused = true)]
async fn the_inner_error_is_mapped_and_the_rest_stays() {
    let text = |error: TaskError<NoUser>| error.map(|NoUser(id)| id.to_string());
    assert_eq!(
        text(TaskError::Failed(NoUser(7))),
        TaskError::Failed("7".to_owned())
    );
    assert_eq!(text(TaskError::Cancelled), TaskError::Cancelled);
    let message = "x".to_owned();
    let panicked = TaskError::Panicked { message };
    assert_eq!(
        text(panicked),
        TaskError::Panicked {
            message: "x".to_owned()
        }
    );
}

#[tokio::test(start_paused = true)]
async fn results_of_a_join_set_are_flattened_as_well() {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async { Answer::Err(NoUser(7)) });
    let joined = tasks.join_next().await.unwrap();
    assert_eq!(flatten(joined), Err(TaskError::Failed(NoUser(7))));
}
