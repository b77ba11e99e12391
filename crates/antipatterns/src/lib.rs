//! Harmful code, written the way people write it, and run.
//!
//! Each file holds code that compiles, passes its first test and harms in production. A test asserts
//! the harm in numbers, so that a claim here is what tokio does and not what somebody once heard; the
//! example runs the harmful form beside the recipe that mends it. Nothing here is for copying:
//! `cargo cookbook copy` refuses, and names the recipe to copy instead.
//!
//! ## Go on with
//! - [CPU-bound tasks and blocking code](https://docs.rs/tokio/latest/tokio/index.html#cpu-bound-tasks-and-blocking-code):
//!   what tokio asks of code on its threads, and where to put the rest.
//! - [Async: What is blocking?](https://ryhl.io/blog/async-what-is-blocking/): the harm in small
//!   programs, and a table of where blocking code may go.
//! - [Status quo stories](https://rust-lang.github.io/wg-async/vision/submitted_stories/status_quo.html):
//!   stories after real ones, of async Rust that compiled and then went wrong.
//! - [tokio-console](https://github.com/tokio-rs/console): a `top` for tasks: see in a running
//!   program which of them never yields.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod block_in_async;
pub mod guard_across_await;
pub mod nested_block_on;
pub mod cleanup_in_drop;
pub mod unowned_task;
pub mod unbounded_queue;
pub mod futurelock;
pub mod dropped_handle;
pub mod no_yield_timeout;
pub mod unbounded_spawn_blocking;
pub mod unreaped_join_set;
pub mod nested_read;
pub mod lost_wakeup;
pub mod concurrency_as_rate;
pub mod dropped_file;
pub mod select_ok_or_first;
pub mod once_cell_init_under_cancel;
pub mod stalled_local_set;
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
