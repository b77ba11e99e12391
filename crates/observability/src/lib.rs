//! # Observability: look inside a program that runs
//!
//! Async code hides what a thread's stack shows otherwise: who called, what a task waits for, why
//! nothing happens. So a program has to say it itself. Two of these recipes belong into every service
//! from the first day, since one cannot add them to an incident; the third is a build for the day
//! after.
//!
//! | Recipe | When | What it costs |
//! | --- | --- | --- |
//! | [`spans`] | always: each event names its request, through tasks, channels and threads | 25 ns a poll, 360 ns a message |
//! | [`runtime_metrics`] | always: a stall, or a worker that does not come back, is told as it happens | a thread; some 15 µs a period |
//! | [`console`] | to find the task that does it; in a build of its own | a build with a flag; each poll and wake-up is an event |
//!
//! ## In an incident
//!
//! | You see | Look at | It is most often |
//! | --- | --- | --- |
//! | nothing answers, and one core is busy, or none | [`runtime_metrics`]: `Stalled`, and its workers | a call that blocks or computes: `block_in_async` |
//! | timers and answers are late now and then | [`runtime_metrics`]: `WorkerHeld` | the same, on one worker |
//! | the report names workers, and you need the task | [`console`]: a task that has never yielded, or is busy for as long as it is alive | the call in that task's code |
//! | a core is busy, and there is no work | [`console`]: polls that grow by thousands a second | a future that wakes itself, a loop of `yield_now` |
//! | alive tasks grow | [`runtime_metrics`]: `alive_tasks`; then [`console`], by the line that spawned them | tasks that nobody owns |
//! | one request never ends | [`spans`]: its last event; then [`console`]: its task | a lost waker, an await without a time limit |
//! | a line of the log is nobody's, or another's | [`spans`] | a task spawned without the span; `entered_span` |
//!
//! ## What it costs to be seen
//!
//! `cargo bench -p observability --bench costs` prints this table, on a rented virtual machine of 2026.
//! The proportions will hold elsewhere, the figures may not.
//!
//! | Nanoseconds, with a subscriber: | none | off | on |
//! | --- | ---: | ---: | ---: |
//! | a poll, bare | 0.4 | 0.4 | 0.4 |
//! | a poll in a span | 4.1 | 4.2 | 25 |
//! | a span with an id, made and closed | 2.5 | 2.4 | 150 |
//! | `InSpan`: sent and taken | 31 | 31 | 360 |
//! | `Span::current()` | 6.9 | 12 | 150 |
//! | an event that nobody writes | 0.4 | 0.4 | 14 |
//!
//! - *None*: the process has no subscriber. *Off*: its level turns spans and events off. *On*: a registry
//!   with a layer that does nothing: what the log's own costs comes on top.
//! - Without a subscriber an instrumented library costs its caller next to nothing, and a span that is
//!   off as little. One that is on costs at each poll of its future, not only once.
//! - The watchdog asks once a period: some 15 µs with two workers and an idle runtime, the answer and the
//!   snapshots included. At ten questions a second that is less than a thousandth of a core.
//!
//! ## Go on with
//! - [`tracing`](https://docs.rs/tracing/latest/tracing/index.html): spans, events and fields, and
//!   what a span's guard means in async code.
//! - [`RuntimeMetrics`](https://docs.rs/tokio/latest/tokio/runtime/struct.RuntimeMetrics.html): what
//!   tokio counts, and which of it needs the flag.
//! - [tokio-console](https://github.com/tokio-rs/console): the program that shows the tasks, with
//!   what its columns and warnings mean.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod spans;
pub mod runtime_metrics;
pub mod console;
