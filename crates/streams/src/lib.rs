//! # Streams: many values over time
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`from_channel`] | a spawned producer as a stream: held back, stopped with it, its failure told | a task, and a channel message an item |
//! | [`from_iter_and_interval`] | numbered ticks, one item for each, and endless iterators that let others run | a timer; a count for each item |
//! | [`merge`] | many streams as one, by key: in turn, no key lost, each end told | an allocation and two polls an item, however many there are |
//! | [`concurrent_map`] | work on several items at once, in one task, that goes on while the loop's body awaits | an allocation for each item, as `buffer_unordered` |
//! | [`micro_batch`] | chunks by size, weight or time; the last one too, and none lost when cancelled | a timer |
//! | [`paginate`] | a paged API as a stream that fetches no further than it is read | one page in memory, two with a page ahead |
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
//! A panic is caught where it unwinds. With `panic = "abort"` in the profile none is: the process
//! ends.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod from_channel;
pub mod from_iter_and_interval;
pub mod merge;
pub mod concurrent_map;
pub mod micro_batch;
pub mod paginate;
