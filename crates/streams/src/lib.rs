//! # Streams: many values over time
//!
//! A stream does nothing by itself: it works while it is polled. That holds a producer back when its
//! reader is slow, and it stops everything inside the stream while the loop that reads it awaits
//! something else. Where that matters, the recipe has a `during` for the loop's body.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`from_channel`] | a spawned producer as a stream: held back, stopped with it, its failure told | a task, and a channel message an item |
//! | [`from_iter_and_interval`] | numbered ticks, one item for each, and endless iterators that let others run | a timer; a count for each item |
//! | [`merge`] | many streams as one, by key: in turn, no key lost, each end told | an allocation and two polls an item, however many there are |
//! | [`concurrent_map`] | a call for each item, several at once, in one task; a panic costs one result | at most 5 % more than the bare combinator with the same guarantees; about 120 bytes for each call under way |
//! | [`micro_batch`] | chunks by number, weight or time; errors beside them | an item waits for company, as long as it may |
//! | [`paginate`] | a paged API as a stream of items, no page fetched that nobody reads | the token of every page, kept; with `during` a page fetched ahead |
//!
//! ## What merging costs
//!
//! `cargo bench -p streams --bench merge` prints this table: one item out of so many channels, on a
//! rented virtual machine of 2026. *One ready*: the reader waits, one channel gets an item, the reader
//! takes it and waits again. *All ready*: each channel has an item. The proportions will hold elsewhere,
//! the figures may not.
//!
//! | Nanoseconds an item, streams: | 1 | 2 | 4 | 8 | 16 | 64 | 256 | 1024 |
//! | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
//! | `StreamMap`, one ready | 135 | 190 | 284 | 454 | 800 | 3024 | 11878 | 50644 |
//! | `SelectAll`, one ready | 425 | 424 | 424 | 425 | 420 | 420 | 418 | 417 |
//! | [`merge`], one ready | 454 | 451 | 452 | 451 | 454 | 451 | 447 | 441 |
//! | `StreamMap`, all ready | 102 | 113 | 126 | 145 | 168 | 251 | 300 | 510 |
//! | `SelectAll`, all ready | 240 | 230 | 231 | 232 | 232 | 236 | 305 | 306 |
//! | [`merge`], all ready | 260 | 250 | 250 | 251 | 251 | 256 | 322 | 323 |
//!
//! `StreamMap` polls one and a half times as many streams as there are for an item, where one is ready
//! at a time: from eight on, waking only those that can go on is cheaper. For two, `merge` of
//! tokio-stream or `select` of futures needs no set at all.
//!
//! ## What concurrent work costs
//!
//! What a call for each item costs, beside the call: `cargo bench -p streams --bench concurrent_map`,
//! on a rented virtual machine of 2026. *Guarded* are the bare combinators with a panic caught and a
//! unit of budget spent for each item. The proportions will hold elsewhere, the figures may not.
//!
//! | 64 at once | ns for each | ratio |
//! | --- | ---: | ---: |
//! | `buffer_unordered`, guarded | 296 | 1.00 |
//! | [`concurrent_map`] by ends | 305 | 1.03 |
//! | the same, with `during` | 336 | 1.13 |
//! | `buffer_unordered`, bare | 277 | 0.94 |
//! | `FuturesUnordered`, bare | 276 | 0.93 |
//! | `JoinSet`, a task for each | 1586 | 5.36 |
//! | `buffered`, guarded | 374 | 1.00 |
//! | [`concurrent_map`] by inputs | 310 | 0.83 |
//! | the same, with `during` | 341 | 0.91 |
//! | `buffered`, bare | 312 | 0.83 |
//!
//! Its memory does not grow with the items: 9 or 11 kB at the peak, for 100,000 as for 1,000,000
//! (`--bench concurrent_map_memory`).
//!
//! A panic is caught where it unwinds. With `panic = "abort"` in the profile none is: the process
//! ends.
//!
//! ## Go on with
//! - [`futures_util::stream`](https://docs.rs/futures-util/latest/futures_util/stream/index.html):
//!   the trait's combinators: `buffered`, `FuturesUnordered`, `SelectAll` and many more.
//! - [`tokio_stream`](https://docs.rs/tokio-stream/latest/tokio_stream/index.html): `StreamMap`,
//!   and wrappers that make streams of tokio's channels and timers.
//! - [Streams](https://tokio.rs/tokio/tutorial/streams): how one is read, adapted and implemented,
//!   step by step.
//! - [Barbara battles buffered streams](https://rust-lang.github.io/wg-async/vision/submitted_stories/status_quo/barbara_battles_buffered_streams.html):
//!   a story after a real bug: connections time out while the body of a loop awaits.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod from_channel;
pub mod from_iter_and_interval;
pub mod merge;
pub mod concurrent_map;
pub mod micro_batch;
pub mod paginate;
