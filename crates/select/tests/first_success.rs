//! What the race promises, and what the forms that lose errors do.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select_ok;
use select::first_success::{AllFailed, Won, first_success};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::select;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

const LIMIT: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);
type Answer = Result<&'static str, &'static str>;

/// Answers after so many milliseconds, and notes when it began and how it ended.
struct Source {
    started: Instant,
    log: RefCell<Vec<String>>,
}

struct Noted<'a>(&'a Source, &'static str, bool);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if !self.2 {
            self.0.note(self.1, "dropped");
        }
    }
}

impl Source {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            log: RefCell::default(),
        }
    }

    fn note(&self, name: &str, what: &str) {
        let at = self.started.elapsed().as_millis();
        self.log.borrow_mut().push(format!("{at} {name} {what}"));
    }

    async fn ask(&self, (name, millis, good): (&'static str, u32, bool)) -> Answer {
        self.note(name, "began");
        let mut noted = Noted(self, name, false);
        sleep(millis * MS).await;
        noted.2 = true;
        if good { Ok(name) } else { Err(name) }
    }

    async fn race(
        &self,
        stagger: u32,
        sources: &[(&'static str, u32, bool)],
    ) -> Result<Won<&'static str, &'static str>, AllFailed<&'static str>> {
        let attempts = sources.iter().map(|source| self.ask(*source));
        first_success(attempts, stagger * MS).await
    }

    fn log(&self) -> Vec<String> {
        self.log.take()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_ok_wins_though_errors_come_before_it() {
    let source = Source::new();
    let sources = [("a", 30, false), ("b", 50, true), ("c", 90, true)];
    let won = source.race(0, &sources).await.unwrap();
    let expected = Won {
        attempt: 1,
        value: "b",
        failed: vec![(0, "a")],
    };
    assert_eq!(won, expected);
    assert_eq!(source.started.elapsed(), 50 * MS);
}

#[tokio::test(start_paused = true)]
async fn the_losers_are_dropped_before_it_returns() {
    let source = Source::new();
    let sources = [("a", 90, true), ("b", 50, true), ("c", 90, false)];
    source.race(0, &sources).await.unwrap();
    let mut log = source.log();
    log[3..].sort();
    let began = ["0 a began", "0 b began", "0 c began"];
    assert_eq!(log[..3], began);
    assert_eq!(log[3..], ["50 a dropped", "50 c dropped"]);
}

#[tokio::test(start_paused = true)]
async fn if_none_is_good_every_error_is_there_in_the_attempts_order() {
    let source = Source::new();
    let sources = [("a", 90, false), ("b", 30, false), ("c", 60, false)];
    let failed = source.race(0, &sources).await.unwrap_err();
    assert_eq!(failed.errors, ["a", "b", "c"]);
    assert_eq!(failed.to_string(), "all 3 attempts failed: a; b; c");
    assert_eq!(source.started.elapsed(), 90 * MS);

    let failed = source.race(0, &sources[..1]).await.unwrap_err();
    assert_eq!(failed.to_string(), "the only attempt failed: a");
}

#[tokio::test(start_paused = true)]
async fn no_attempt_at_all_is_an_error_at_once() {
    let source = Source::new();
    for stagger in [0, 100] {
        let failed = source.race(stagger, &[]).await.unwrap_err();
        assert!(failed.errors.is_empty());
        assert!(failed.to_string().contains("no attempt"), "{failed}");
    }
    assert_eq!(source.started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_stagger_starts_a_spare_attempt_when_the_first_is_slow() {
    let source = Source::new();
    let sources = [("a", 500, true), ("b", 30, true), ("c", 30, true)];
    let won = source.race(100, &sources).await.unwrap();
    assert_eq!((won.attempt, won.failed), (1, vec![]));
    let log = source.log();
    assert_eq!(log, ["0 a began", "100 b began", "130 a dropped"]);
}

#[tokio::test(start_paused = true)]
async fn the_next_attempt_begins_at_once_when_all_that_began_have_failed() {
    let source = Source::new();
    let sources = [("a", 20, false), ("b", 130, false), ("c", 10, false)];
    let failed = source.race(100, &sources).await.unwrap_err();
    assert_eq!(failed.errors, ["a", "b", "c"]);
    // b counts its stagger from its own beginning.
    assert_eq!(source.log(), ["0 a began", "20 b began", "120 c began"]);
    assert_eq!(source.started.elapsed(), 150 * MS);
}

#[tokio::test(start_paused = true)]
async fn an_enormous_stagger_is_a_fallback() {
    let source = Source::new();
    let sources = [("a", 20, false), ("b", 10_000, true), ("c", 10, true)];
    let attempts = sources.iter().map(|asked| source.ask(*asked));
    let won = first_success(attempts, Duration::MAX).await.unwrap();
    assert_eq!((won.value, won.failed), ("b", vec![(0, "a")]));
    assert_eq!(source.log(), ["0 a began", "20 b began"]);
}

#[tokio::test(start_paused = true)]
async fn an_enormous_stagger_is_thirty_years() {
    let started = Instant::now();
    let attempts = (0..2).map(async |number| match number {
        0 => pending().await,
        _ => Ok::<_, &str>(()),
    });
    let won = first_success(attempts, Duration::MAX).await.unwrap();
    assert_eq!(won.attempt, 1);
    assert_eq!(started.elapsed().as_secs() / (365 * 86_400), 30);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_made_only_when_they_begin() {
    let made = Cell::new(0);
    let attempts = (0..1_000).map(|number| {
        made.set(made.get() + 1);
        async move {
            sleep(30 * MS).await;
            if number == 4 { Ok(number) } else { Err("no") }
        }
    });
    let won = first_success(attempts, 20 * MS).await.unwrap();
    assert_eq!((won.attempt, made.get()), (4, 6)); // at 0, 20, … 100 ms; it won at 110 ms
}

#[tokio::test(start_paused = true)]
async fn of_several_that_are_ready_at_once_the_first_counts() {
    let attempts = ["a", "b", "c"].map(|name| ready(Ok::<_, &str>(name)));
    let won = first_success(attempts, Duration::ZERO).await.unwrap();
    assert_eq!(won.attempt, 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_drops_the_others_and_reaches_the_caller() {
    let alive = Rc::new(());
    let other = Rc::clone(&alive);
    let task = tokio::task::LocalSet::new();
    let end = task.run_until(async move {
        let race = tokio::task::spawn_local(async move {
            let attempts = (0..2).map(|number| {
                let other = Rc::clone(&other);
                async move {
                    sleep(MS).await;
                    assert_ne!(number, 0, "on purpose");
                    pending::<()>().await;
                    drop(other);
                    Ok::<(), &str>(())
                }
            });
            first_success(attempts, Duration::ZERO).await
        });
        race.await
    });
    assert!(end.await.unwrap_err().is_panic());
    assert_eq!(Rc::strong_count(&alive), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_race_drops_every_attempt() {
    let setup = async || Source::new();
    let operation = async |source: &mut Source| {
        let sources = [("a", 20, false), ("b", 80, false), ("c", 10, true)];
        source.race(30, &sources).await.unwrap().value
    };
    let check = async |source: Source, outcome| {
        let log = source.log();
        let began = log.iter().filter(|line| line.ends_with("began")).count();
        let dropped = log.iter().filter(|line| line.ends_with("dropped")).count();
        if let Outcome::Completed(value) = outcome {
            assert_eq!((value, began, dropped), ("c", 3, 1));
        } else {
            let ended = log.len() - began - dropped;
            assert!(ended == 0 && dropped <= began, "{log:?}");
            let at = source.started.elapsed();
            sleep(LIMIT).await;
            assert!(source.log().is_empty(), "something went on after {at:?}");
        }
    };
    let points = every_await_point(LIMIT, setup, operation, check).await;
    assert!(points.unwrap() >= 3);
}

#[tokio::test(start_paused = true)]
async fn harm_a_select_ends_with_the_first_result_even_an_error() {
    let source = Source::new();
    let first = select! {
        answer = source.ask(("a", 10, false)) => answer,
        answer = source.ask(("b", 50, true)) => answer,
    };
    assert_eq!(first, Err("a"));
}

#[tokio::test(start_paused = true)]
async fn harm_a_loser_that_is_a_join_handle_goes_on() {
    let done = Rc::new(Cell::new(0));
    let task = tokio::task::LocalSet::new();
    let count = Rc::clone(&done);
    let race = async move {
        let spawn = |millis: u32| {
            let count = Rc::clone(&count);
            tokio::task::spawn_local(async move {
                sleep(millis * MS).await;
                count.set(count.get() + 1);
            })
        };
        let bare = [10, 50, 50].map(spawn);
        first_success(bare, Duration::ZERO).await.unwrap();
        sleep(LIMIT).await;
        let bare = count.replace(0);
        let owned = [10, 50, 50].map(|millis| AbortOnDropHandle::new(spawn(millis)));
        first_success(owned, Duration::ZERO).await.unwrap();
        sleep(LIMIT).await;
        (bare, count.get())
    };
    assert_eq!(task.run_until(race).await, (3, 1));
}

#[tokio::test(start_paused = true)]
async fn harm_select_ok_keeps_only_the_last_error() {
    let source = Source::new();
    let sources = [("a", 10, false), ("b", 20, false), ("c", 15, false)];
    let attempts = sources.map(|asked| Box::pin(source.ask(asked)));
    assert_eq!(select_ok(attempts).await.map(drop), Err("b"));
}

#[tokio::test(start_paused = true)]
async fn harm_a_race_has_no_limit_of_its_own() {
    let race = first_success([pending::<Answer>()], Duration::ZERO);
    timeout(LIMIT, race).await.unwrap_err();
}
