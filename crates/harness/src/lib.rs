//! # Harness: `every_await_point` for the tests of the other sections
//!
//! They all use this one recipe of `testing`, which as a section also needs shuttle and turmoil.
//! Whoever runs a first example would wait for those as well. So this crate compiles the recipe's
//! file and nothing else, and the workspace calls it `testing`, as the recipe is found there.

#[path = "../../testing/src/every_await_point.rs"]
pub mod every_await_point;
