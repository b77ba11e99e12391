//! # Testing: prove that async code is right
//!
//! A test of async code that fails now and then has found something: an order of events that its author
//! did not think of. Run again until it passes, it has found nothing. Each tool here takes one source
//! of chance, the clock, the order of tasks, the pieces in which bytes come, the place at which a
//! future is dropped, and goes through it on purpose, so that what was found once is found every time.
//!
//! ## From the symptom
//!
//! | The test… | Most often because | Begin with |
//! | --- | --- | --- |
//! | passes alone, fails with others | they share a process: statics, the environment, a fixed port, the tracing subscriber | [`capture_events`] for the subscriber, [`mock_by_trait`] for the rest; port 0 |
//! | fails only on CI | a limit on the real clock, and a slower machine | [`paused_clock`] |
//! | takes seconds of real time | it waits for a real `sleep` | [`paused_clock`] |
//! | hangs | a lost wake-up, or two sides that wait for each other | a `timeout` on a paused clock turns it into an error at once; then [`poll_by_hand`], or [`mock_io`] with a capacity of 1 |
//! | passes whatever I change | a paused clock jumps to any instant; an assertion panics in a task that nobody awaits; no await point was tried | [`paused_clock`]; await the `JoinHandle`; [`every_await_point`] and the number that it returns |
//! | fails once in a thousand runs | an order of two threads | [`explore_interleavings`] |
//! | passes, and production loses an item at a timeout | a future is dropped half way | [`every_await_point`] |
//! | passes, and production reads garbage now and then | a message comes in two pieces | [`mock_io`] |
//! | passes, and production is stuck after a failure of the network | a peer that is gone looks like one that is slow | [`simulate_network`] |
//! | passes on one thread, fails on several | the default runtime of `#[tokio::test]` has one | [`test_flavors`], [`explore_interleavings`] |
//!
//! ## Which tool finds what
//!
//! | Recipe | Finds | Cannot find | A small test, ms |
//! | --- | --- | --- | ---: |
//! | [`paused_clock`] | wrong periods, deadlines and orders of timed steps, to the millisecond | races between threads; slow code, since computing takes no virtual time | 1.5 |
//! | [`test_flavors`] | calls that block the only thread, orders taken for granted, updates lost between threads; where a hang is | an order that the threads do not happen to take | 0.3 |
//! | [`mock_by_trait`] | wrong, missing, doubled and late calls; code that cannot bear a slow answer | where the real thing differs from the script | 0.1 |
//! | [`mock_io`] | wrong answers to pauses, ends and errors at each byte; two sides that write first | what two connections do to each other | 1.6 |
//! | [`poll_by_hand`] | lost and misdirected wake-ups, busy loops | an event that comes from another thread during the poll | 0.1 |
//! | [`every_await_point`] | what is lost, doubled or left open when a future is dropped half way | what needs two threads at the same instant | 0.6 |
//! | [`capture_events`] | what nobody is told: a failure without an event, an event without its request | what the code does not say | 0.3 |
//! | [`explore_interleavings`] | a lost wake-up, a lost update or a deadlock, in every order of events there is, and again by its schedule | what weak memory does, or time; code that does not use shuttle's types | 1100 |
//! | [`simulate_network`] | a hang, a wrong retry or a doubled effect when a link breaks, an answer is lost or a server crashes | what depends on bandwidth, retransmission, a slow machine or the kernel | 1000 |
//!
//! The last column is `cargo bench --profile dev -p testing --bench costs`, on a rented virtual machine
//! of 2026, the runtime's start included: an hour of virtual time in 60 sleeps, a script of 7 bytes in 22
//! rounds, 1,000 orders of
//! two threads, 5 virtual seconds of two hosts.
//!
//! ## One bug, five ways
//!
//! A reader of messages, a byte of length and as many bytes, is used in a loop that has something else
//! to do each second:
//!
//! ```
//! # use std::{io, time::Duration};
//! # use tokio::{io::{AsyncRead, AsyncReadExt}, time::timeout};
//! async fn next(input: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
//!     let length = input.read_u8().await?;
//!     let mut message = vec![0; length.into()];
//!     input.read_exact(&mut message).await?;
//!     Ok(message)
//! }
//!
//! # async fn work(mut input: impl AsyncRead + Unpin) -> io::Result<()> {
//! loop {
//!     if let Ok(message) = timeout(Duration::from_secs(1), next(&mut input)).await {
//!         println!("{:?}", message?);
//!     }
//!     // a heartbeat
//! }
//! # }
//! ```
//!
//! A message that comes in two pieces with a second between them loses the first: it was in the future
//! that `timeout` dropped, and the next byte is taken for a length. The mended reader keeps what has
//! come in itself, as `frame_reader` of the section `select` does. `tests/page.rs` finds the bug with
//! each tool and passes with the mended reader:
//!
//! | With | It takes | And tells |
//! | --- | --- | --- |
//! | [`paused_clock`] | a peer that pauses for two seconds, which the test must think of | the end of the input inside of a message |
//! | [`poll_by_hand`] | one poll, a drop, another poll, at a place that the test chooses | the second is pending: it waits for 98 bytes, since `b` is a length |
//! | [`mock_io`] | the bytes of two messages, and a pause that is longer than the limit | the round: `Bytewise` |
//! | [`every_await_point`] | nothing: no pause, no timeout, no place | the await: point 2, after the length |
//! | [`simulate_network`] | two hosts, and a link that is held | the error of the client |
//!
//! Others do not find it. `check_wakeups` of [`poll_by_hand`] passes: whom it wakes is right. A real
//! socket on one machine delivers both messages in one piece. And [`explore_interleavings`] goes through
//! all of 23 orders of a writer and the reader, and all are right: nothing is dropped, since there is no
//! clock that could run out. With the timer modelled as a third task it is found.
//!
//! ## Go on with
//! - [Unit Testing](https://tokio.rs/tokio/topics/testing): a paused clock and a scripted
//!   connection, in Tokio's own words.
//! - [`tokio_test`](https://docs.rs/tokio-test/latest/tokio_test/index.html): scripted streams,
//!   polling by hand, and assertions on what a poll returned.
//! - [`shuttle`](https://docs.rs/shuttle/latest/shuttle/index.html): random orders of threads and
//!   tasks, and how to replay the one that failed.
//! - [`loom`](https://docs.rs/loom/latest/loom/index.html): every order of a small test, and much
//!   of what weak memory does.
//! - [`turmoil`](https://docs.rs/turmoil/latest/turmoil/index.html): hosts, links and crashes in
//!   one thread, and how to control them.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod test_flavors;
pub mod paused_clock;
pub mod mock_by_trait;
pub mod mock_io;
pub mod poll_by_hand;
pub mod every_await_point;
pub mod capture_events;
pub mod explore_interleavings;
pub mod simulate_network;
