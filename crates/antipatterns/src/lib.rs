//! Harmful code, written the way people write it, and run.
//!
//! Each file holds code that compiles, passes its first test and harms in production. A test asserts
//! the harm in numbers, so that a claim here is what tokio does and not what somebody once heard; the
//! example runs the harmful form beside the recipe that mends it. Nothing here is for copying:
//! `cargo cookbook copy` refuses, and names the recipe to copy instead.
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
