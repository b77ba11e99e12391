//! Each event names the request that it belongs to.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::sync::{Arc, Mutex};
use std::time::Duration;

use observability::spans::{InSpan, in_current_span, spawn};
use testing::capture_events::Capture;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Id, Instrument, Span, Subscriber, error, error_span, info, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

const LIMIT: Duration = Duration::from_secs(60);

async fn pause() {
    sleep(Duration::from_millis(1)).await;
}

/// Tells in which span it is dropped.
#[derive(Debug)]
struct Dropped(&'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        info!("{} is dropped", self.0);
    }
}

/// The events so far: which request, and what.
fn said(capture: &Capture) -> Vec<(Option<u32>, String)> {
    let events = capture.events().into_iter();
    events
        .map(|event| {
            let id = event.field("id").map(|id| id.parse().unwrap());
            (id, event.message)
        })
        .collect()
}

/// The same, as one writes it down.
fn lines<const N: usize>(lines: [(u32, &str); N]) -> Vec<(Option<u32>, String)> {
    lines
        .map(|(id, text)| (Some(id).filter(|id| *id > 0), text.to_owned()))
        .into()
}

#[tokio::test(start_paused = true)]
async fn a_message_brings_its_span_and_its_handlers_at_once_do_not_mix_them() {
    let capture = Capture::of("spans");
    let _guard = capture.start();
    let (sender, mut receiver) = mpsc::channel(8);
    for id in [1, 2, 3] {
        error_span!("request", id).in_scope(|| sender.try_send(InSpan::here(id)).unwrap());
    }
    drop(sender);
    let mut handlers = JoinSet::new();
    while let Some(message) = receiver.recv().await {
        assert!(Span::current().is_none(), "the receiver itself is in none");
        handlers.spawn(message.handle(async |id: u32| {
            info!("begins {id}");
            sleep(Duration::from_millis(id.into())).await; // the others are between
            info!("ends {id}");
        }));
    }
    handlers.join_all().await;
    assert_eq!(
        said(&capture),
        lines([
            (1, "begins 1"),
            (2, "begins 2"),
            (3, "begins 3"),
            (1, "ends 1"),
            (2, "ends 2"),
            (3, "ends 3"),
        ])
    );
}

#[tokio::test(start_paused = true)]
async fn the_call_and_the_end_of_a_handler_are_in_the_span_too() {
    let capture = Capture::of("spans");
    let _guard = capture.start();
    let handler = |value: Dropped| {
        info!("is called");
        async move {
            pause().await;
            drop(value);
            std::future::ready(Dropped("what it returns")).await
        }
    };
    let returned = InSpan::of(Dropped("value"), error_span!("request", id = 7));
    let returned = returned.handle(handler).await;
    assert!(Span::current().is_none());
    drop(returned);
    let expected = [
        (7, "is called"),
        (7, "value is dropped"),
        (0, "what it returns is dropped"),
    ];
    assert_eq!(said(&capture), lines(expected));
}

#[tokio::test(start_paused = true)]
async fn harm_to_instrument_what_a_handler_returned_misses_its_call() {
    let capture = Capture::of("spans");
    let _guard = capture.start();
    let handler = |()| {
        info!("is called");
        async { info!("is polled") }
    };
    handler(()).instrument(error_span!("request", id = 7)).await;
    assert_eq!(said(&capture), lines([(0, "is called"), (7, "is polled")]));
}

#[tokio::test]
async fn a_handler_that_does_not_await_runs_in_the_span_and_only_it() {
    let capture = Capture::of("spans");
    let _guard = capture.start();
    let message = InSpan::of(3, error_span!("request", id = 7));
    assert_eq!(*message.get(), 3);
    message.span().in_scope(|| info!("looks at it"));
    let twice = message.map(|number| {
        info!("changes it");
        number * 2
    });
    let result = twice.in_scope(|number| {
        info!("takes it");
        number + 1
    });
    assert_eq!(result, 7);
    info!("outside");
    let (value, span) = InSpan::of("both", error_span!("request", id = 8)).into_parts();
    assert_eq!(value, "both");
    span.in_scope(|| info!("apart"));
    assert_eq!(
        said(&capture),
        lines([
            (7, "looks at it"),
            (7, "changes it"),
            (7, "takes it"),
            (0, "outside"),
            (8, "apart"),
        ])
    );
}

#[tokio::test]
async fn a_message_that_nobody_handles_is_dropped_in_its_span() {
    let capture = Capture::of("spans");
    let _guard = capture.start();
    let (sender, receiver) = mpsc::channel(8);
    let message = InSpan::of(Dropped("message"), error_span!("request", id = 7));
    sender.send(message).await.unwrap();
    drop((sender, receiver));
    assert_eq!(said(&capture), lines([(7, "message is dropped")]));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_dropped_anywhere_drops_the_value_in_the_span() {
    let capture = Capture::of("spans");
    let _guard = capture.start();
    let rounds = Mutex::new(0);
    let points = every_await_point(
        LIMIT,
        async || error_span!("request", id = 7),
        async |span: &mut Span| {
            let message = InSpan::of(Dropped("message"), span.clone());
            let handler = async |_value: Dropped| {
                pause().await;
                pause().await;
            };
            message.handle(handler).await;
        },
        async |_, outcome| {
            *rounds.lock().unwrap() += 1;
            let said = said(&capture);
            let rounds = *rounds.lock().unwrap();
            assert_eq!(said.len(), rounds, "{outcome:?}");
            assert_eq!(said.last(), lines([(7, "message is dropped")]).first());
            assert!(Span::current().is_none());
            if rounds == 1 {
                assert_eq!(outcome, Outcome::Completed(()));
            }
        },
    )
    .await;
    // Each pause suspends twice: for want of budget, and for its time.
    assert_eq!(points.unwrap(), 4);

    // Never polled.
    let message = InSpan::of(Dropped("message"), error_span!("request", id = 8));
    drop(message.handle(async |_| ()));
    assert_eq!(
        said(&capture).last(),
        lines([(8, "message is dropped")]).first()
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_is_spawned_in_the_span() {
    let capture = Capture::of("spans");
    let _guard = capture.start();
    let request = async |id: u32| {
        let value = Dropped("what it owns");
        let task = spawn(async move {
            pause().await;
            info!("works for {id}");
            drop(value);
            id
        });
        assert_eq!(task.await.unwrap(), id);
    };
    tokio::join!(
        request(1).instrument(error_span!("request", id = 1)),
        request(2).instrument(error_span!("request", id = 2)),
    );
    assert_eq!(
        said(&capture),
        lines([
            (1, "works for 1"),
            (1, "what it owns is dropped"),
            (2, "works for 2"),
            (2, "what it owns is dropped"),
        ])
    );
}

/// What tokio-console shows of a task, and what the panic outside of a runtime names.
#[test]
fn the_place_of_a_task_is_where_it_was_spawned() {
    let (place, seen) = std::sync::mpsc::sync_channel(1);
    let (here, usual) = (std::thread::current().id(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| match panic.location() {
        Some(at) if std::thread::current().id() == here => {
            place.send((at.file().to_owned(), at.line())).unwrap();
        }
        _ => usual(panic),
    }));
    let line = line!() + 1;
    let spawned = std::panic::catch_unwind(|| drop(spawn(async {})));
    spawned.unwrap_err();
    assert_eq!(seen.recv().unwrap(), (file!().to_owned(), line));
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_handle_is_dropped_runs_on() {
    let capture = Capture::of("spans");
    let _guard = capture.start();
    error_span!("request", id = 1).in_scope(|| {
        drop(spawn(async {
            pause().await;
            info!("runs on");
        }));
    });
    sleep(LIMIT).await;
    assert_eq!(said(&capture), lines([(1, "runs on")]));
}

#[tokio::test]
async fn harm_a_task_starts_without_a_span_and_does_not_find_it_from_within() {
    let capture = Capture::of("spans");
    let _guard = capture.start();
    async {
        let bare = tokio::spawn(async { info!("bare") });
        let late = tokio::spawn(async { async { info!("late") }.in_current_span().await });
        let right = tokio::spawn(async { info!("right") }.in_current_span());
        for task in [bare, late, right] {
            task.await.unwrap();
        }
    }
    .instrument(error_span!("request", id = 1))
    .await;
    assert_eq!(
        said(&capture),
        lines([(0, "bare"), (0, "late"), (1, "right")])
    );
}

#[tokio::test]
async fn a_closure_takes_the_span_to_another_thread() {
    let capture = Capture::of("spans");
    let _guard = capture.start();
    let here = std::thread::current().id();
    let dispatch = capture.dispatch(); // whoever hears the thread's events
    let span = error_span!("request", id = 1);
    let work = span.in_scope(|| {
        in_current_span(move || {
            tracing::dispatcher::with_default(&dispatch, || info!("works"));
            std::thread::current().id()
        })
    });
    assert_ne!(spawn_blocking(work).await.unwrap(), here);
    let value = Dropped("captured");
    let never = span.in_scope(|| in_current_span(move || drop(value)));
    drop(never);
    let dispatch = capture.dispatch();
    let bare = move || tracing::dispatcher::with_default(&dispatch, || info!("bare"));
    span.in_scope(|| spawn_blocking(bare)).await.unwrap();
    assert_eq!(
        said(&capture),
        lines([(1, "works"), (1, "captured is dropped"), (0, "bare")])
    );
}

/// Notes at each event how many spans are around it, and each span that closes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn said(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let spans = context.event_scope(event).into_iter().flatten().count();
        let level = event.metadata().level();
        let line = format!("{level} in {spans} spans");
        self.0.lock().unwrap().push(line);
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let name = |id| context.span(id).unwrap().name();
        let line = format!("{} follows {}", name(id), name(follows));
        self.0.lock().unwrap().push(line);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let line = format!("{} is closed", context.span(&id).unwrap().name());
        self.0.lock().unwrap().push(line);
    }
}

#[test]
fn harm_a_filter_turns_a_span_off_and_leaves_the_error_without_it() {
    let log = Log::default();
    let subscriber = tracing_subscriber::registry()
        .with(LevelFilter::WARN)
        .with(log.clone());
    tracing::subscriber::with_default(subscriber, || {
        info_span!("request", id = 1).in_scope(|| error!("lost"));
        error_span!("request", id = 1).in_scope(|| error!("kept"));
    });
    assert_eq!(
        log.said(),
        ["ERROR in 0 spans", "ERROR in 1 spans", "request is closed"]
    );
}

#[tokio::test(start_paused = true)]
async fn harm_a_task_that_lives_on_keeps_the_span_open_and_a_root_that_follows_does_not() {
    let log = Log::default();
    let subscriber = tracing_subscriber::registry().with(log.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let mail = async || {
        pause().await;
        info!("sent");
    };
    let answer = async { drop(spawn(mail())) };
    answer.instrument(error_span!("request", id = 1)).await;
    assert_eq!(log.said(), [""; 0], "it is answered, and not closed");
    sleep(LIMIT).await;
    let with_the_task = ["INFO in 1 spans", "request is closed"];
    assert_eq!(log.said(), with_the_task);

    log.0.lock().unwrap().clear();
    let answer = async {
        let span = error_span!(parent: None, "mail", id = 1);
        span.follows_from(Span::current());
        drop(tokio::spawn(mail().instrument(span)));
    };
    answer.instrument(error_span!("request", id = 1)).await;
    let answered = ["mail follows request", "request is closed"];
    assert_eq!(log.said(), answered);
    sleep(LIMIT).await;
    assert_eq!(log.said()[2..], ["INFO in 1 spans", "mail is closed"]);
}
