//! That handlers of different types share a table, and what each bound allows.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use testing::every_await_point::{Outcome, every_await_point};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use traits::handlers::{Handlers, Taken, Unknown, visit};

const MS: Duration = Duration::from_millis(1);

async fn double(number: u32) -> u32 {
    sleep(MS).await;
    number * 2
}

fn table() -> Handlers<u32, u32> {
    let mut handlers = Handlers::new();
    handlers.add("double", double).unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let count = move |number| {
        let calls = Arc::clone(&calls);
        async move { number + calls.fetch_add(1, Ordering::Relaxed) }
    };
    handlers.add("count", count).unwrap();
    handlers
}

#[tokio::test(start_paused = true)]
async fn functions_and_closures_with_state_are_in_one_table() {
    let handlers = table();
    assert_eq!(handlers.call("double", 21).unwrap().await, 42);
    assert_eq!(handlers.call("count", 10).unwrap().await, 10);
    assert_eq!(handlers.call("count", 10).unwrap().await, 11);
    assert_eq!(handlers.names(), ["count", "double"]);
    assert!(format!("{handlers:?}").contains("\"double\""));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_used_once_and_an_unknown_one_gives_the_input_back() {
    let mut handlers = table();
    let taken = handlers.add("double", |number| async move { number });
    assert_eq!(taken, Err(Taken("double".to_owned())));
    assert_eq!(
        handlers.call("double", 1).unwrap().await,
        2,
        "the first one stays"
    );
    let Err(unknown) = handlers.call("triple", 7) else {
        panic!("there is no such handler");
    };
    assert_eq!(unknown, Unknown(7));
    assert!(Handlers::<u32, u32>::default().names().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_can_be_spawned_and_outlive_the_table() {
    let handlers = Arc::new(table());
    let mut tasks = JoinSet::new();
    for number in 0..20 {
        tasks.spawn(handlers.call("double", number).unwrap());
    }
    drop(handlers);
    let mut all = tasks.join_all().await;
    all.sort_unstable();
    assert_eq!(all, (0..20).map(|number| number * 2).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn harm_a_call_that_nobody_polls_does_nothing() {
    let handlers = table();
    drop(handlers.call("count", 0).unwrap());
    assert_eq!(
        handlers.call("count", 0).unwrap().await,
        0,
        "it was the first"
    );
}

#[tokio::test(start_paused = true)]
async fn a_visitor_borrows_the_item_and_its_surroundings_and_need_not_be_send() {
    let mut seen = Vec::new();
    let not_send = Rc::new(3);
    let started = Instant::now();
    let look = async |text: &String| {
        sleep(MS).await;
        seen.push(text.len() + *not_send);
        if text == "stop" {
            Err("stopped")
        } else {
            Ok(())
        }
    };
    let words = ["a", "bb", "stop", "never"].map(str::to_owned);
    assert_eq!(visit(words, look).await, Err("stopped"));
    assert_eq!(seen, [4, 5, 7]);
    assert_eq!(started.elapsed(), 3 * MS);
    assert_eq!(visit([], async |_: &u8| Err("never called")).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_visit_has_visited_the_items_before() {
    let points = every_await_point(
        Duration::from_secs(60),
        async || Vec::new(),
        async |seen: &mut Vec<u32>| {
            let look = async |number: &u32| {
                sleep(MS).await;
                seen.push(*number);
                Ok::<_, &str>(())
            };
            visit([1, 2, 3], look).await
        },
        async |seen, outcome| {
            let all = [1, 2, 3];
            assert_eq!(seen, all[..seen.len()]);
            assert_eq!(
                seen.len() == 3,
                matches!(outcome, Outcome::Completed(Ok(())))
            );
        },
    )
    .await;
    assert!(points.unwrap() >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_drops_the_handler() {
    let held = Arc::new(());
    let mut handlers = Handlers::new();
    let hold = |held: Arc<()>| async move {
        sleep(MS).await;
        drop(held);
    };
    handlers.add("hold", hold).unwrap();
    let mut call = handlers.call("hold", Arc::clone(&held)).unwrap();
    assert!(futures_util::poll!(&mut call).is_pending());
    assert_eq!(Arc::strong_count(&held), 2);
    drop(call);
    assert_eq!(Arc::strong_count(&held), 1);
}
