//! Harmful code, written the way people write it, and run.
//!
//! Each file holds code that compiles, passes its first test and harms in production. A test asserts
//! the harm in numbers, so that a claim here is what tokio does and not what somebody once heard; the
//! example runs the harmful form beside the recipe that mends it. Nothing here is for copying:
//! `cargo cookbook copy` refuses, and names the recipe to copy instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod block_in_async;
pub mod entered_span;
