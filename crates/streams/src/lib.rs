//! # Streams: many values over time
//!
//! A stream does nothing by itself: it works while it is polled. That holds a producer back when its
//! reader is slow, and it stops everything inside the stream while the loop that reads it awaits
//! something else. Where that matters, the recipe has a `during` for the loop's body.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`concurrent_map`] | a call for each item, several at once, in one task; a panic costs one result | at most 5 % more than the bare combinator with the same guarantees; about 120 bytes for each call under way |
//! | [`micro_batch`] | chunks by number, weight or time; errors beside them | an item waits for company, as long as it may |
//! | [`paginate`] | a paged API as a stream of items, no page fetched that nobody reads | the token of every page, kept; with `during` a page fetched ahead |
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
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod concurrent_map;
pub mod micro_batch;
pub mod paginate;
