//! Harmful code, written the way people write it, and run.
//!
//! Each file holds code that compiles, passes its first test and harms in production. A test asserts
//! the harm in numbers, so that a claim here is what tokio does and not what somebody once heard; the
//! example runs the harmful form beside the recipe that mends it. Nothing here is for copying:
//! `cargo cookbook copy` refuses, and names the recipe to copy instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod block_in_async;
pub mod no_jitter;
pub mod retry_storm;
pub mod paid_twice;
pub mod fatal_accept;
pub mod ignored_half_close;
pub mod one_read_one_message;
pub mod endless_line;
pub mod swallowed_panic;
pub mod detached_by_question_mark;
pub mod panic_taken_for_the_end;
pub mod ctrl_c_only;
pub mod accepted_and_dropped;
pub mod try_send_dropped;
pub mod limit_outside_timeout;
pub mod lost_readiness;
pub mod endless_pool_wait;
pub mod half_transaction;
