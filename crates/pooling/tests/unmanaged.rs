//! That a fixed number of things is lent to one user at a time, and comes back from each.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use deadpool::unmanaged::{Object, Pool, PoolError};
use pooling::unmanaged::{Lender, LoanError, NotAdded};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_millis(100);

/// Lends "a", "b", …; what comes back is lent again if it is not "broken".
fn lender(things: &[&str]) -> Lender<String> {
    let whole = |thing: &mut String, _| thing != "broken";
    let things = things.iter().map(|thing| (*thing).to_owned()).collect();
    Lender::new(things, WAIT, whole)
}

fn counts<T>(lender: &Lender<T>) -> (usize, usize) {
    (lender.size(), lender.available())
}

#[tokio::test(start_paused = true)]
async fn each_thing_is_lent_to_one_user_at_a_time() {
    let lender = lender(&["a", "b"]);
    let mut first = lender.borrow().await.unwrap();
    let second = lender.borrow().await.unwrap();
    assert_ne!(*first, *second);
    assert_eq!(counts(&lender), (2, 0));
    assert!(format!("{lender:?}").contains("size: 2, available: 0"));
    first.push('!');
    drop(first);
    assert_eq!(counts(&lender), (2, 1));
    assert!(lender.borrow().await.unwrap().ends_with('!'));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_and_who_waits_less_gets_the_next() {
    let lender = lender(&["a"]);
    let loan = lender.borrow().await.unwrap();
    let started = Instant::now();
    let none = LoanError::NoneFree {
        size: 1,
        waited: WAIT,
    };
    assert_eq!(lender.borrow().await.unwrap_err(), none);
    assert_eq!(started.elapsed(), WAIT);
    let (next, ()) = tokio::join!(lender.borrow(), async {
        sleep(Duration::from_millis(60)).await;
        drop(loan);
    });
    assert_eq!(*next.unwrap(), "a");
    assert_eq!(started.elapsed(), Duration::from_millis(160));
}

#[tokio::test(start_paused = true)]
async fn with_no_time_to_wait_the_answer_comes_at_once() {
    let lender = Lender::new(vec![1], Duration::ZERO, |_, _| true);
    let loan = lender.borrow().await.unwrap();
    let started = Instant::now();
    assert!(matches!(
        lender.borrow().await,
        Err(LoanError::NoneFree { .. })
    ));
    assert_eq!(started.elapsed(), Duration::ZERO);
    drop(loan);
    assert!(lender.borrow().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_loan_ends_with_its_drop_its_tasks_cancellation_and_its_panic() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ends);
    let lender = Lender::new(vec![0], WAIT, move |number: &mut u32, panicked| {
        seen.lock().unwrap().push((*number, panicked));
        *number = 0; // cleaned for the next
        true
    });
    *lender.borrow().await.unwrap() = 1;
    let used = async |number| {
        let mut loan = lender.borrow().await.unwrap();
        assert_eq!(*loan, 0);
        *loan = number;
        sleep(LIMIT).await;
    };
    assert!(timeout(WAIT, used(2)).await.is_err());
    let in_task = lender.clone();
    let task = tokio::spawn(async move {
        let mut loan = in_task.borrow().await.unwrap();
        *loan = 3;
        assert_eq!(*loan, 4, "a fault");
    });
    assert!(task.await.unwrap_err().is_panic());
    let expected = [(1, false), (2, false), (3, true)];
    assert_eq!(*ends.lock().unwrap(), expected);
    assert_eq!(counts(&lender), (1, 1));
    assert_eq!(*lender.borrow().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_came_back_broken_is_thrown_out_and_its_place_is_free() {
    let lender = lender(&["a", "b"]);
    lender.borrow().await.unwrap().replace_range(.., "broken");
    assert_eq!(counts(&lender), (1, 1));
    lender.add("c".to_owned()).unwrap();
    let one_too_many = lender.add("d".to_owned());
    assert_eq!(one_too_many, Err(NotAdded("d".to_owned())));
    assert_eq!(counts(&lender), (2, 2));
    assert_eq!(*lender.borrow().await.unwrap(), "c");
}

#[tokio::test(start_paused = true)]
async fn a_lender_of_nothing_lends_nothing() {
    let lender = lender(&[]);
    assert_eq!(counts(&lender), (0, 0));
    assert!(lender.borrow().await.is_err());
    assert!(lender.add("a".to_owned()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_thing_added_later_goes_to_who_waits() {
    let lender = lender(&["a"]);
    lender.borrow().await.unwrap().replace_range(.., "broken");
    let (loan, ()) = tokio::join!(lender.borrow(), async {
        sleep(Duration::from_millis(50)).await;
        lender.add("b".to_owned()).unwrap();
    });
    assert_eq!(*loan.unwrap(), "b");
}

/// Also when the user is panicking already, where a second panic would abort the program.
#[tokio::test(start_paused = true)]
async fn a_check_in_that_panics_throws_the_thing_out() {
    let lender = Lender::new(vec![1, 2], WAIT, |_: &mut u32, _| {
        panic!("cannot look at it")
    });
    drop(lender.borrow().await.unwrap());
    assert_eq!(counts(&lender), (1, 1));
    let in_task = lender.clone();
    let task = tokio::spawn(async move {
        let _loan = in_task.borrow().await.unwrap();
        panic!("a fault");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(counts(&lender), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn closing_drops_what_is_here_fails_who_waits_and_drops_what_comes_back() {
    let thing = Arc::new(());
    let lender = Lender::new(
        vec![Arc::clone(&thing), Arc::clone(&thing)],
        LIMIT,
        |_, _| true,
    );
    let loan = lender.borrow().await.unwrap();
    let second = lender.borrow().await.unwrap();
    let (waiting, ()) = tokio::join!(lender.borrow(), async {
        sleep(WAIT).await;
        lender.close();
    });
    assert_eq!(waiting.unwrap_err(), LoanError::Closed);
    drop(loan);
    assert_eq!(
        Arc::strong_count(&thing),
        2,
        "the one that is still on loan, and ours"
    );
    drop(second);
    assert_eq!((Arc::strong_count(&thing), counts(&lender)), (1, (0, 0)));
    assert!(lender.add(thing).is_err());
    assert_eq!(lender.borrow().await.unwrap_err(), LoanError::Closed);
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_point_a_borrow_has_taken_nothing() {
    // Free at once, and after a wait.
    for busy in [false, true] {
        let setup = async || {
            let lender = lender(&["a"]);
            let held = if busy {
                lender.borrow().await.ok()
            } else {
                None
            };
            if let Some(loan) = held {
                tokio::spawn(async move {
                    sleep(WAIT / 2).await;
                    drop(loan);
                });
            }
            lender
        };
        let operation = async |lender: &mut Lender<String>| lender.borrow().await.map(drop);
        let check = async |lender: Lender<String>, outcome: Outcome<Result<(), LoanError>>| {
            if let Outcome::Completed(borrowed) = outcome {
                borrowed.unwrap();
            }
            assert_eq!(*lender.borrow().await.unwrap(), "a");
            assert_eq!(counts(&lender), (1, 1));
        };
        let points = every_await_point(LIMIT, setup, operation, check).await;
        assert!(points.unwrap() >= 1, "busy: {busy}");
    }
}

/// Runs `take` and `close` at the same time, until one panics or for so many rounds.
fn panics_within<P: Send + Sync>(
    rounds: usize,
    new: impl Fn() -> P,
    take: impl Fn(&P) + Sync,
    close: impl Fn(&P) + Sync,
) -> bool {
    (0..rounds).any(|_| {
        let (pool, start) = (new(), Barrier::new(2));
        thread::scope(|scope| {
            let taking = scope.spawn(|| {
                start.wait();
                take(&pool);
            });
            start.wait();
            close(&pool);
            taking.join().is_err()
        })
    })
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn closed_by_another_thread_a_borrow_does_not_panic() {
    let take = |lender: &Lender<String>| {
        block_on(async {
            while let Ok(loan) = lender.borrow().await {
                drop(loan);
            }
        });
    };
    assert!(!panics_within(300, || lender(&["a"]), take, Lender::close));
}

#[test]
fn harm_closed_by_another_thread_a_bare_get_panics() {
    let take = |pool: &Pool<u32>| while pool.try_get().is_ok() {};
    let found = panics_within(100_000, || Pool::from([1]), take, Pool::close);
    assert!(found);
}

#[tokio::test(start_paused = true)]
async fn harm_a_pool_made_from_things_waits_for_ever_and_knows_no_time_limit() {
    let pool = Pool::from([1]);
    let object = pool.get().await.unwrap();
    assert!(timeout(LIMIT, pool.get()).await.is_err());
    let limited = pool.timeout_get(Some(WAIT)).await.unwrap_err();
    assert!(matches!(limited, PoolError::NoRuntimeSpecified));
    // It is full, also while its things are on loan.
    assert!(timeout(LIMIT, pool.add(2)).await.is_err());
    assert!(matches!(pool.try_add(2), Err((2, PoolError::Timeout))));
    drop(object);
}

#[tokio::test(start_paused = true)]
async fn harm_what_a_panic_left_half_changed_is_lent_and_what_is_taken_out_leaves_waiters_alone() {
    let pool = Pool::from([1]);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut object = pool.try_get().unwrap();
        *object = 666;
        panic!("half way");
    }));
    assert!(panicked.is_err());
    let object = pool.get().await.unwrap();
    assert_eq!(*object, 666);
    let waiting = async {
        tokio::task::yield_now().await;
        assert_eq!(pool.status().waiting, 0, "though one waits");
        assert_eq!(Object::take(object), 666);
    };
    let (got, ()) = tokio::join!(timeout(LIMIT, pool.get()), waiting);
    assert!(got.is_err());
    assert_eq!(pool.status().size, 0);
}

#[tokio::test(start_paused = true)]
async fn harm_with_little_to_do_the_first_things_are_never_used() {
    let lender = lender(&["a", "b", "c"]);
    for _ in 0..100 {
        assert_eq!(*lender.borrow().await.unwrap(), "c");
    }
}
