//! What is captured, and what is not.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testing::capture_events::{Capture, Captured};
use tokio::time::sleep;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::{Interest, NoSubscriber};
use tracing::{
    Dispatch, Event, Instrument, Level, Metadata, Span, Subscriber, debug, error, info, info_span,
    span, trace, warn,
};

#[test]
fn an_event_has_its_level_target_message_and_fields() {
    let capture = Capture::of("capture_events");
    let _guard = capture.start();
    let (number, path) = (7, "/tmp");
    warn!(number, path, error = %"gone", cause = ?Some(1), "{} went wrong", "it");
    let expected = Captured {
        level: Level::WARN,
        target: "capture_events".to_owned(),
        message: "it went wrong".to_owned(),
        fields: vec![
            ("number", "7".to_owned()),
            ("path", "/tmp".to_owned()),
            ("error", "gone".to_owned()),
            ("cause", "Some(1)".to_owned()),
        ],
        spans: vec![],
    };
    assert_eq!(capture.events(), std::slice::from_ref(&expected));
    let line = "WARN it went wrong number=7 path=/tmp error=gone cause=Some(1)";
    assert_eq!(capture.lines(), [line]);
    assert_eq!(expected.field("path"), Some("/tmp"));
    assert_eq!(expected.field("nothing"), None);
}

#[test]
fn all_levels_are_captured_and_only_targets_that_begin_so() {
    let capture = Capture::of("mine");
    let _guard = capture.start();
    error!(target: "mine", "1");
    info!(target: "mine::inner", "2");
    debug!(target: "mine", "3");
    trace!(target: "mine", "4");
    error!(target: "other::mine", "no");
    error!("no");
    assert_eq!(capture.lines(), ["ERROR 1", "INFO 2", "DEBUG 3", "TRACE 4"]);
    let targets: Vec<_> = capture.events().into_iter().map(|it| it.target).collect();
    assert_eq!(targets, ["mine", "mine::inner", "mine", "mine"]);
}

#[test]
fn spans_are_around_events_with_their_fields_the_outermost_first() {
    let capture = Capture::of("capture_events");
    let _guard = capture.start();
    let request = info_span!(target: "elsewhere", "request", id = 1, user = tracing::field::Empty);
    request.in_scope(|| {
        info!("before");
        request.record("user", "ann");
        info_span!("query", rows = 3, user = "bob").in_scope(|| info!(id = 2, "in it"));
        info!("after");
    });
    info!("outside");
    assert_eq!(
        capture.lines(),
        [
            "INFO request{id=1} before",
            "INFO request{id=1 user=ann} query{rows=3 user=bob} in it id=2",
            "INFO request{id=1 user=ann} after",
            "INFO outside",
        ]
    );
    let inner = &capture.events()[1];
    assert_eq!(inner.field("id"), Some("2"), "the event's own goes first");
    assert_eq!(inner.field("rows"), Some("3"));
    assert_eq!(inner.field("user"), Some("bob"), "then the innermost");
}

#[test]
fn a_field_that_is_recorded_again_has_its_last_value() {
    let capture = Capture::of("");
    let _guard = capture.start();
    let span = info_span!("span", tries = 1, id = 9);
    span.record("tries", 2);
    span.in_scope(|| info!("event"));
    assert_eq!(capture.lines(), ["INFO span{id=9 tries=2} event"]);
}

#[test]
fn explicit_parents_and_roots_are_what_they_say() {
    let capture = Capture::of("");
    let _guard = capture.start();
    let (outer, other) = (info_span!("outer"), info_span!("other"));
    let _entered = outer.enter();
    let root = info_span!(parent: None, "root");
    let child = info_span!(parent: &other, "child");
    root.in_scope(|| info!("1"));
    child.in_scope(|| info!("2"));
    info!(parent: None, "3");
    info!(parent: &other, "4");
    assert_eq!(
        capture.lines(),
        [
            "INFO root{} 1",
            "INFO other{} child{} 2",
            "INFO 3",
            "INFO other{} 4"
        ]
    );
}

#[test]
fn spans_that_are_left_in_another_order_than_entered_are_left() {
    let capture = Capture::of("");
    let _guard = capture.start();
    let (one, two) = (info_span!("one"), info_span!(parent: None, "two"));
    let (in_one, in_two) = (one.enter(), two.enter());
    drop(in_one);
    info!("in two");
    drop(in_two);
    info!("in none");
    assert_eq!(capture.lines(), ["INFO two{} in two", "INFO in none"]);
}

#[test]
fn nothing_is_heard_before_the_start_or_after_the_end() {
    let capture = Capture::of("");
    let say = |what| info!("{what}");
    say("before");
    let guard = capture.start();
    say("within");
    drop(guard);
    say("after");
    assert_eq!(capture.lines(), ["INFO within"]);
}

#[tokio::test(start_paused = true)]
async fn spawned_tasks_of_a_current_thread_runtime_are_heard() {
    let capture = Capture::of("");
    let _guard = capture.start();
    let span = info_span!("request", id = 1);
    let with = tokio::spawn(async { info!("with") }.instrument(span.clone()));
    let current = {
        let _entered = span.enter();
        tokio::spawn(async { info!("with the current one") }.in_current_span())
    };
    let without = tokio::spawn(async { info!("without") });
    for task in [with, current, without] {
        task.await.unwrap();
    }
    assert_eq!(
        capture.lines(),
        [
            "INFO request{id=1} with",
            "INFO request{id=1} with the current one",
            "INFO without"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn tasks_that_take_turns_keep_their_own_spans() {
    let capture = Capture::of("");
    let _guard = capture.start();
    let work = async |millis| {
        sleep(Duration::from_millis(millis)).await;
        info!("once");
        sleep(Duration::from_millis(10)).await;
        info!("twice");
    };
    tokio::join!(
        work(1).instrument(info_span!("a")),
        work(2).instrument(info_span!("b"))
    );
    let expected = [
        "INFO a{} once",
        "INFO b{} once",
        "INFO a{} twice",
        "INFO b{} twice",
    ];
    assert_eq!(capture.lines(), expected);
}

#[test]
fn other_threads_are_heard_where_they_use_its_dispatch_and_else_are_not() {
    let capture = Capture::of("");
    let _guard = capture.start();
    let dispatch = capture.dispatch();
    std::thread::scope(|scope| {
        scope.spawn(|| info!("harm: not heard"));
        scope.spawn(|| tracing::dispatcher::with_default(&dispatch, || info!("heard")));
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    runtime.block_on(async {
        let lost = tokio::spawn(async { info!("harm: not heard") });
        let heard = async { info!("heard, too") };
        let heard = tokio::spawn(heard.with_subscriber(capture.dispatch()));
        lost.await.unwrap();
        heard.await.unwrap();
    });
    assert_eq!(capture.lines(), ["INFO heard", "INFO heard, too"]);
}

#[test]
fn each_thread_has_spans_of_its_own() {
    let capture = Capture::of("");
    let _guard = capture.start();
    let _entered = info_span!("here").entered();
    let dispatch = capture.dispatch();
    std::thread::scope(|scope| {
        scope.spawn(|| tracing::dispatcher::with_default(&dispatch, || info!("there")));
    });
    info!("here");
    assert_eq!(capture.lines(), ["INFO there", "INFO here{} here"]);
}

#[test]
fn tests_beside_each_other_hear_only_their_own() {
    let say = |what| info!(what, "said");
    std::thread::scope(|scope| {
        for number in 0..50 {
            scope.spawn(move || {
                let capture = Capture::of("");
                let _guard = capture.start();
                for _ in 0..20 {
                    say(number);
                    std::thread::yield_now();
                }
                let expected = format!("INFO said what={number}");
                assert_eq!(capture.lines(), vec![expected; 20]);
            });
        }
    });
}

#[test]
fn what_is_recorded_may_look_at_the_events_itself() {
    struct Looks(Capture);
    impl std::fmt::Debug for Looks {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{}", self.0.lines().len())
        }
    }
    let capture = Capture::of("");
    let _guard = capture.start();
    info!("first");
    info!(seen = ?Looks(capture.clone()), "second");
    let span = info_span!("span", seen = ?Looks(capture.clone()));
    span.record("seen", tracing::field::debug(Looks(capture.clone())));
    span.in_scope(|| info!("third"));
    let expected = [
        "INFO first",
        "INFO second seen=1",
        "INFO span{seen=2} third",
    ];
    assert_eq!(capture.lines(), expected);
}

#[test]
fn the_current_span_is_the_innermost_of_this_thread() {
    let capture = Capture::of("");
    let _guard = capture.start();
    assert!(Span::current().is_none());
    let span = info_span!("span");
    let _entered = span.enter();
    assert_eq!(Span::current().id(), span.id());
    assert_eq!(Span::current().metadata().unwrap().name(), "span");
}

/// Remembers what it is asked, as any subscriber of one's own does.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn event(&self, event: &Event<'_>) {
        self.0
            .lock()
            .unwrap()
            .push(event.metadata().target().to_owned());
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Set in a process of its own: what tracing remembers is the process's.
const ALONE: &str = "CAPTURE_EVENTS_ALONE";

/// How many events a subscriber hears that is made before a thread without one meets the event.
fn heard_after_another_thread_met_it_first(
    dispatch: &Dispatch,
    events: impl Fn() -> usize,
) -> usize {
    let say = || info!("the same event of the source");
    let _guard = tracing::dispatcher::set_default(dispatch);
    std::thread::scope(|scope| {
        scope.spawn(|| tracing::dispatcher::with_default(&Dispatch::none(), say));
    });
    say();
    events()
}

/// Runs this test binary again, with one test of it.
fn alone(name: &str) -> bool {
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", name]).env(ALONE, "1");
    test.output().unwrap().status.success()
}

#[test]
fn harm_an_event_that_a_thread_without_a_subscriber_meets_first_is_off_for_all() {
    if std::env::var_os(ALONE).is_none() {
        assert!(alone(
            "harm_an_event_that_a_thread_without_a_subscriber_meets_first_is_off_for_all"
        ));
        return;
    }
    let log = Log::default();
    let dispatch = Dispatch::new(log.clone());
    let heard = heard_after_another_thread_met_it_first(&dispatch, || log.0.lock().unwrap().len());
    assert_eq!(
        heard, 0,
        "it is heard: the second dispatch is no longer needed"
    );
}

#[test]
fn an_event_that_a_thread_without_a_subscriber_meets_first_is_captured() {
    if std::env::var_os(ALONE).is_none() {
        assert!(alone(
            "an_event_that_a_thread_without_a_subscriber_meets_first_is_captured"
        ));
        return;
    }
    let capture = Capture::of("");
    let dispatch = capture.dispatch();
    let heard = heard_after_another_thread_met_it_first(&dispatch, || capture.lines().len());
    assert_eq!(heard, 1);
}

#[test]
fn harm_a_global_subscriber_can_be_set_once() {
    if std::env::var_os(ALONE).is_none() {
        assert!(alone("harm_a_global_subscriber_can_be_set_once"));
        return;
    }
    tracing::subscriber::set_global_default(NoSubscriber::new()).unwrap();
    tracing::subscriber::set_global_default(NoSubscriber::new()).unwrap_err();
}
