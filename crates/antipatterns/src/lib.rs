//! Harmful code, written the way people write it, and run.
//!
//! Each file holds code that compiles, passes its first test and harms in production. A test asserts
//! the harm in numbers, so that a claim here is what tokio does and not what somebody once heard; the
//! example runs the harmful form beside the recipe that mends it. Nothing here is for copying:
//! `cargo cookbook copy` refuses, and names the recipe to copy instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod block_in_async;
pub mod item_lost_in_select;
pub mod read_exact_in_select;
pub mod biased_starvation;
pub mod lagged_as_closed;
pub mod rebuilt_sleep;
pub mod kept_sender;
pub mod vacuous_paused_test;
pub mod burst_of_ticks;
pub mod sleep_as_interval;
pub mod shared_receiver_lock;
pub mod actors_in_a_circle;
pub mod buffered_standstill;
pub mod await_in_a_loop;
pub mod unseen_first_value;
pub mod zip_eats_an_item;
pub mod trickle_never_flushes;
pub mod select_without_else;
pub mod one_key_twice;
pub mod offset_paging;
pub mod closed_channel_spins;
pub mod stream_never_waits;
