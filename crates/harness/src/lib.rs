//! # Harness: three recipes of `testing` for the tests of the other sections
//!
//! They use [`every_await_point`], [`capture_events`] and [`paused_clock`] of `testing`, which as a
//! section also needs shuttle and turmoil. Whoever runs a first example would wait for those as well.
//! So this crate compiles the three recipes' files and nothing else, and the workspace calls it
//! `testing`, as the recipes are found there.

#[path = "../../testing/src/every_await_point.rs"]
pub mod every_await_point;

#[path = "../../testing/src/capture_events.rs"]
pub mod capture_events;

#[path = "../../testing/src/paused_clock.rs"]
pub mod paused_clock;
