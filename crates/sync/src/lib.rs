//! # Sync: share state between tasks
//!
//! What happens while a lock is held decides which lock it is. Most state is changed in a few lines
//! that wait for nothing, and for that a blocking mutex is right in async code too, and the cheapest.
//! Where something is awaited in between, ask first whether it can be awaited before.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`short_lock`] | change state in a closure that cannot await, and notice the panic half way | that of `std::sync::Mutex` |
//! | [`async_lock`] | await while nobody else may change the state; all of a change or nothing | callers take turns; a clone of the state for each |
//! | [`read_mostly`] | read all the time, replace now and then; no reader holds up a writer | a new version for each update |
//! | [`notify`] | wait until the state fits, and take from it in the same step | each update makes every waiter look |
//! | [`single_flight`] | one computation per key for all who ask while it runs | a map entry while it runs |
//! | [`limit_concurrency`] | so many at once, so many waiting, the rest refused | two semaphores, no task |
//! | [`limit_rate`] | so many calls per second, with a burst; or when to come back | a short lock a call; one timer, however many wait |
//!
//! ## What a lock costs
//!
//! `cargo bench -p sync --bench costs` prints this table: a read or a write of 64 bytes, by one task
//! alone, and by four tasks on each of two threads at once, on a rented virtual machine of 2026. The
//! proportions will hold elsewhere, the figures may not.
//!
//! | Nanoseconds, 2 threads | alone, read | alone, write | contended, 50 % reads | contended, 99 % reads |
//! | --- | ---: | ---: | ---: | ---: |
//! | `std::sync::Mutex` | 11 | 12 | 94 | 67 |
//! | the same in [`short_lock`] | 12 | 13 | 96 | 72 |
//! | `std::sync::RwLock` | 11 | 12 | 106 | 72 |
//! | `ArcSwap` in [`read_mostly`] | 13 | 121 | 293 | 19 |
//! | `tokio::sync::Mutex` | 44 | 43 | 342 | 337 |
//! | the same in [`async_lock`] | 153 | 154 | 794 | 790 |
//! | `tokio::sync::RwLock` | 43 | 43 | 362 | 137 |
//!
//! - For reads as short as these, a lock for many readers is no faster than one for a single holder:
//!   each reader still writes to the lock. Only the swapped `Arc` lets them read beside each other.
//! - An async lock costs four times as much, contended or not. It is not a faster mutex for async
//!   code; it is one that may be held while something is awaited.
//!
//! A panic is caught where it unwinds. With `panic = "abort"` in the profile none is: the process
//! ends.
//!
//! ## Go on with
//! - [`tokio::sync::Mutex`](https://docs.rs/tokio/latest/tokio/sync/struct.Mutex.html): which kind
//!   of mutex tokio itself advises, and when.
//! - [`tokio::sync::Semaphore`](https://docs.rs/tokio/latest/tokio/sync/struct.Semaphore.html):
//!   permits at work: files, requests, tests, a token bucket.
//! - [`arc_swap::docs`](https://docs.rs/arc-swap/latest/arc_swap/docs/index.html): patterns, limits
//!   and costs of a swapped `Arc`.
//! - [Shared state](https://tokio.rs/tokio/tutorial/shared-state): a lock around a map in a server,
//!   and what to do where an await comes between.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod short_lock;
pub mod async_lock;
pub mod read_mostly;
pub mod notify;
pub mod single_flight;
pub mod limit_concurrency;
pub mod limit_rate;
