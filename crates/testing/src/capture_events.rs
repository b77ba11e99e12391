//! # Capture events: what a test's code told tracing
//!
//! "The failure is logged" is a promise like any other, and the first thing to break unseen. To test
//! it, a test needs the events of its own code, each with its level, its fields and the spans around
//! it; and none of the events of tests beside it. The field's usual means, a global subscriber, is one
//! for all tests of a process, and tracing remembers for each event of the source whether anybody
//! wants it, which can lose the very event that is waited for.
//!
//! ## Use it when
//! - a recipe or library promises an event: for a panic caught, an item dropped, a connection refused;
//! - each event of a request has to carry the request's id, across awaits and tasks.
//!
//! It finds failures that nobody is told of, and events that lost their request. It cannot find what
//! the code never says.
//!
//! ## Use something else when
//! - the log's lines and format are under test: `tracing_subscriber::fmt` with a writer of your own;
//! - the value of a metric or the return of a function says it too: assert that.
//!
//! ## Add to your project
//! ```console
//! cargo add tracing
//! cargo add tracing-core
//! ```
//! It belongs in your tests: `cargo add --dev` and a file in `tests/` serve as well.
//!
//! ## Watch out
//! - The guard of [`Capture::start`] is for the thread that made it: the whole of a current-thread
//!   runtime, but not the workers of another, nor `spawn_blocking` or `std::thread::spawn`. There, use
//!   `.with_subscriber(capture.dispatch())` on the future, or `with_default` in the closure.
//! - `set_global_default` works once in a process, and for all its tests.
//! - While a process has made only one `Dispatch`, an event that a thread without a subscriber meets
//!   first is off for all: the test that captures it later waits in vain. [`Capture`] makes two.
//! - A test that asserts that there is *no* event passes if nothing was captured at all. Assert one that
//!   must be there as well.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};
use tracing_core::span::Current;

/// Collects events, until the last clone is gone. All clones share them.
#[derive(Debug, Clone)]
pub struct Capture {
    state: Arc<Mutex<State>>,
    dispatch: Dispatch,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// How important it is.
    pub level: Level,
    /// The module it comes from, unless the event says something else.
    pub target: String,
    /// Its message, or an empty text.
    pub message: String,
    /// The other fields, by name, as text: what is recorded by `%` or as a string without quotes.
    pub fields: Vec<(&'static str, String)>,
    /// The spans around it, the outermost first, each with its fields.
    pub spans: Vec<(&'static str, Vec<(&'static str, String)>)>,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Captured>,
    /// By the number of their id, from 1. They are kept to the end: a test has few.
    spans: Vec<Span>,
    /// Those that a thread has entered, the innermost last.
    entered: HashMap<ThreadId, Vec<Id>>,
}

#[derive(Debug)]
struct Span {
    metadata: &'static Metadata<'static>,
    fields: Fields,
    parent: Option<Id>,
}

impl Capture {
    /// Collects the events of all targets that begin with `target`, such as `"my_crate::my_module"`;
    /// with `""`, of all. It hears of nothing before [`start`](Self::start), or where its
    /// [`dispatch`](Self::dispatch) is used.
    #[must_use]
    pub fn of(target: impl Into<String>) -> Self {
        // With a second one, tracing asks all of them about an event of the source, not only the one
        // of the thread that comes first.
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Collector::default()));
        LazyLock::force(&SECOND);
        let collector = Collector {
            target: Some(target.into()),
            state: Arc::default(),
        };
        Self {
            state: Arc::clone(&collector.state),
            dispatch: Dispatch::new(collector),
        }
    }

    /// Makes it the subscriber of this thread, until the guard is dropped.
    #[must_use = "dropping the guard ends it"]
    pub fn start(&self) -> DefaultGuard {
        tracing::dispatcher::set_default(&self.dispatch)
    }

    /// The subscriber, for other threads: `tracing::dispatcher::with_default(&dispatch, …)`, or
    /// `future.with_subscriber(dispatch)` of `tracing::instrument::WithSubscriber`.
    #[must_use]
    pub fn dispatch(&self) -> Dispatch {
        self.dispatch.clone()
    }

    /// The events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Captured> {
        lock(&self.state).events.clone()
    }

    /// The events so far as lines, as [`Captured`] is displayed.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let state = lock(&self.state);
        state.events.iter().map(ToString::to_string).collect()
    }
}

impl Captured {
    /// The text of a field, if there is one of this name: of the event's own, or of the spans around
    /// it, the innermost first.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let spans = self.spans.iter().rev().map(|(_, fields)| fields);
        let mut all = std::iter::once(&self.fields).chain(spans).flatten();
        all.find(|(key, _)| *key == name)
            .map(|(_, text)| text.as_str())
    }
}

/// `WARN request{id=7} the client is gone bytes=12`.
impl fmt::Display for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.level)?;
        for (name, fields) in &self.spans {
            let fields: Vec<_> = fields
                .iter()
                .map(|(key, text)| format!("{key}={text}"))
                .collect();
            write!(f, " {name}{{{}}}", fields.join(" "))?;
        }
        if !self.message.is_empty() {
            write!(f, " {}", self.message)?;
        }
        for (key, text) in &self.fields {
            write!(f, " {key}={text}")?;
        }
        Ok(())
    }
}

/// What tracing calls. Without a target it collects nothing.
#[derive(Default)]
struct Collector {
    target: Option<String>,
    state: Arc<Mutex<State>>,
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = self.target.as_ref();
        // Spans of all targets: those around an event need not be of its module.
        target.is_some_and(|target| metadata.is_span() || metadata.target().starts_with(target))
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let mut state = lock(&self.state);
        let parent = attributes.parent().cloned();
        let parent = parent.or_else(|| state.entered(attributes.is_contextual()));
        state.spans.push(Span {
            metadata: attributes.metadata(),
            fields,
            parent,
        });
        Id::from_u64(u64::try_from(state.spans.len()).unwrap_or(u64::MAX))
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = lock(&self.state).span(id) {
            let new = fields.others;
            span.fields
                .others
                .retain(|(key, _)| new.iter().all(|(other, _)| other != key));
            span.fields.others.extend(new);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields); // before the lock: code of the caller's runs in there
        let mut state = lock(&self.state);
        let parent = event.parent().cloned();
        let mut next = parent.or_else(|| state.entered(event.is_contextual()));
        let mut spans = Vec::new();
        while let Some(span) = next.and_then(|id| state.span(&id)) {
            spans.push((span.metadata.name(), span.fields.others.clone()));
            next = span.parent.clone();
        }
        spans.reverse();
        state.events.push(Captured {
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            message: fields.message,
            fields: fields.others,
            spans,
        });
    }

    fn enter(&self, id: &Id) {
        let mut state = lock(&self.state);
        let entered = state.entered.entry(thread::current().id()).or_default();
        entered.push(id.clone());
    }

    fn exit(&self, id: &Id) {
        let mut state = lock(&self.state);
        let entered = state.entered.entry(thread::current().id()).or_default();
        if let Some(place) = entered.iter().rposition(|it| it == id) {
            entered.remove(place);
        }
    }

    fn current_span(&self) -> Current {
        let mut state = lock(&self.state);
        let Some(id) = state.entered(true) else {
            return Current::none();
        };
        match state.span(&id) {
            Some(span) => Current::new(id, span.metadata),
            None => Current::none(),
        }
    }
}

impl State {
    fn span(&mut self, id: &Id) -> Option<&mut Span> {
        let place = usize::try_from(id.into_u64()).ok()?.checked_sub(1)?;
        self.spans.get_mut(place)
    }

    /// The innermost span of this thread, if it is asked for.
    fn entered(&self, is_contextual: bool) -> Option<Id> {
        let entered = self.entered.get(&thread::current().id())?;
        entered.last().filter(|_| is_contextual).cloned()
    }
}

#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.others.push((name, value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
