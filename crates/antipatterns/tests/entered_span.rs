//! Whose id an event carries when a span is entered across an await.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use antipatterns::entered_span::serve;
use observability::spans::InSpan;
use testing::capture_events::Capture;
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::{Event, Instrument, Subscriber, dispatcher, error_span, info};
use tracing_subscriber::layer::{self, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

async fn query(id: u64) {
    sleep(Duration::from_millis(10 * id)).await;
}

async fn health_check() {
    sleep(Duration::from_millis(5)).await;
    info!("is well");
}

/// The same as the harmful form, with the span around it.
async fn mended(id: u64) {
    let request = InSpan::of(id, error_span!("request", id));
    let handler = async |id| {
        info!("begins");
        query(id).await;
        info!("ends");
    };
    request.handle(handler).await;
}

/// Each event's id, if it has one, the innermost if it has several.
fn ids(capture: &Capture) -> Vec<(String, String)> {
    let events = capture.events().into_iter();
    events
        .map(|event| {
            (
                event.field("id").unwrap_or("none").to_owned(),
                event.message,
            )
        })
        .collect()
}

fn lines<const N: usize>(lines: [(&str, &str); N]) -> Vec<(String, String)> {
    lines
        .map(|(id, text)| (id.to_owned(), text.to_owned()))
        .into()
}

#[tokio::test(start_paused = true)]
async fn harm_two_of_three_requests_end_with_the_id_of_another() {
    let capture = Capture::of("");
    let _guard = capture.start();
    let [one, two, three] = [1, 2, 3].map(|id| serve(id, query(id)));
    tokio::join!(one, two, three);
    let expected = [
        ("1", "begins"),
        ("2", "begins"),
        ("3", "begins"),
        ("3", "ends"),
        ("3", "ends"),
        ("3", "ends"),
    ];
    assert_eq!(ids(&capture), lines(expected));
    let spans = |event: usize| capture.events()[event].spans.len();
    assert_eq!(
        [spans(0), spans(1), spans(2)],
        [1, 2, 3],
        "one in the other"
    );
}

#[tokio::test(start_paused = true)]
async fn harm_a_task_without_a_span_takes_the_id_over() {
    let capture = Capture::of("");
    let _guard = capture.start();
    let request = tokio::spawn(serve(1, query(1))); // it is `Send`: nobody objects
    tokio::spawn(health_check()).await.unwrap();
    request.await.unwrap();
    let expected = [("1", "begins"), ("1", "is well"), ("1", "ends")];
    assert_eq!(ids(&capture), lines(expected));
}

/// Notes at each event how many spans are around it, as any layer of tracing-subscriber sees them.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<usize>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, context: layer::Context<'_, S>) {
        let spans = context.event_scope(event).into_iter().flatten().count();
        self.0.lock().unwrap().push(spans);
    }
}

type Request<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

fn poll(request: Request<'_>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    request.poll(&mut context).is_ready()
}

/// Polls it as another worker of the runtime does.
fn poll_elsewhere(request: Request<'_>) -> bool {
    let dispatch = dispatcher::get_default(Clone::clone);
    let poll = || dispatcher::with_default(&dispatch, || poll(request));
    thread::scope(|scope| scope.spawn(poll).join().unwrap())
}

/// Begins a request on this thread and goes on with it elsewhere. Tells how many spans are around an
/// event of something else here, while the request waits there, and when it has ended.
fn around_something_else(request: impl Future<Output = ()> + Send) -> [usize; 2] {
    let log = Log::default();
    let subscriber = tracing_subscriber::registry().with(log.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut request = Box::pin(request);
    let around = || {
        info!("something else");
        *log.0.lock().unwrap().last().unwrap()
    };
    assert!(!poll(request.as_mut()));
    assert!(!poll_elsewhere(request.as_mut()));
    let meanwhile = around();
    assert!(poll_elsewhere(request.as_mut()));
    [meanwhile, around()]
}

async fn two_steps() {
    yield_now().await;
    yield_now().await;
}

#[test]
fn harm_a_thread_stays_in_the_span_while_the_request_goes_on_elsewhere() {
    assert_eq!(around_something_else(serve(7, two_steps())), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn mended_each_ends_with_its_own_id_and_the_health_check_has_none() {
    let capture = Capture::of("");
    let _guard = capture.start();
    let requests = [1, 2, 3].map(|id| tokio::spawn(mended(id)));
    tokio::spawn(health_check()).await.unwrap();
    for request in requests {
        request.await.unwrap();
    }
    let expected = [
        ("1", "begins"),
        ("2", "begins"),
        ("3", "begins"),
        ("none", "is well"),
        ("1", "ends"),
        ("2", "ends"),
        ("3", "ends"),
    ];
    assert_eq!(ids(&capture), lines(expected));
}

#[test]
fn mended_a_thread_is_out_of_the_span_when_the_request_goes_on_elsewhere() {
    let mended = two_steps().instrument(error_span!("request", id = 7));
    assert_eq!(around_something_else(mended), [0, 0]);
}
