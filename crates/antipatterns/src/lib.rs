//! # Antipatterns: harmful code, written the way people write it, and run
//!
//! Each file holds code that compiles, passes its first test and harms in production. A test asserts
//! the harm in numbers, so that a claim here is what tokio does and not what somebody once heard; the
//! example runs the harmful form beside the recipe that mends it. Nothing here is for copying:
//! `cargo cookbook copy` refuses, and names the recipe to copy instead.
//!
//! | Twin | What it does to you | Mended by |
//! | --- | --- | --- |
//! | [`nested_block_on`] | panics in every task; another crate's `block_on` hangs with three of four workers idle | `sync_bridge` |
//! | [`block_in_async`] | one slow call, and no timer or socket of its thread is looked after | `cpu_offload` |
//! | [`unbounded_spawn_blocking`] | 512 threads at once, and none left for files and names | `cpu_offload` |
//! | [`await_in_a_loop`] | 10 calls take 1 s instead of 100 ms; `join_all` over 10,000 has 9,000 refused | `spawn_batch` |
//! | [`unreaped_join_set`] | a limit of 1,000 at once refuses the 1,001st of all time, with none open | `join_set` |
//! | [`stalled_local_set`] | after the start the 11th `send` never returns: nobody awaits the `LocalSet` | `local_tasks` |
//! | [`unowned_task`] | 3 rounds in a day instead of 1,440 after one panic, and nobody hears of it | `supervisor` |
//! | [`kept_sender`] | all three results are there, and after a day it still waits | `work_queue` |
//! | [`shared_receiver_lock`] | four workers, and one at a time works: 800 ms instead of 200 | `work_queue` |
//! | [`unbounded_queue`] | a worker half as fast as its producer is 3,000 jobs and 60 s behind after a minute | `work_queue` |
//! | [`actors_in_a_circle`] | the first order that needs both stops them for ever | `request_reply` |
//! | [`lagged_as_closed`] | one slow event in 1,000, and the subscriber misses 990 | `event_bus` |
//! | [`unseen_first_value`] | a watch loop applies the value that was there 0 times | `config_watch` |
//! | [`item_lost_in_select`] | recv, then send, in one branch: 1,000 reports cost 1,000 items | `forward` |
//! | [`closed_channel_spins`] | after the end, 128 turns for each of another task's: a core at 100 % | `event_loop` |
//! | [`biased_starvation`] | no heartbeat in 10 s, and 2,500 jobs are taken up after the stop | `shutdown_first` |
//! | [`select_without_else`] | 100 of 100 moved, and the end is a panic | `guarded_branches` |
//! | [`select_ok_or_first`] | one of two replicas refuses, and 100 of 100 requests fail | `first_success` |
//! | [`read_exact_in_select`] | a tick in a message loses it and all behind it | `frame_reader` |
//! | [`no_yield_timeout`] | a limit of zero, a million candidates looked at, and `Ok` | `deadline` |
//! | [`sleep_as_interval`] | 171 of 3,600 runs are missing after an hour | `periodic` |
//! | [`burst_of_ticks`] | a call that hangs for a minute is followed by 60 ticks at once | `missed_ticks` |
//! | [`rebuilt_sleep`] | an idle limit of a minute has not come after a day and 4,320 pings | `schedule_at` |
//! | [`fatal_accept`] | one failed accept ends the server: 20 of 30 are answered, and who comes later is refused | `tcp_server` |
//! | [`one_read_one_message`] | half an answer, whose rest is taken for the next one | `tcp_client` |
//! | [`endless_line`] | a peer sends 32 MiB without a newline, and all of it is held | `framed_lines` |
//! | [`ignored_half_close`] | of an answer of a million bytes the client gets none, or all wait for ever | `relay` |
//! | [`dropped_file`] | `save` says `Ok`, and the file is empty, also on a full disk | `durable_write` |
//! | [`accepted_and_dropped`] | of five accepted requests none is answered when `main` returns | `graceful_shutdown` |
//! | [`ctrl_c_only`] | SIGTERM kills it without cleanup; a second Ctrl-C does nothing | `signals` |
//! | [`dropped_handle`] | a payment given up three times by `timeout` is made three times | `abort_tasks` |
//! | [`cleanup_in_drop`] | a blocking `Drop` aborts the process when its task panics; of 10 spawned cleanups none is done | `async_close` |
//! | [`guard_across_await`] | two callers on one thread hang for ever, timers and time limits with them | `short_lock` |
//! | [`futurelock`] | two futures of one task and one lock: nothing has moved after an hour | `async_lock` |
//! | [`nested_read`] | one writer between two reads of one order: it and 100 readers wait for ever | `read_mostly` |
//! | [`lost_wakeup`] | a stop told during a job is not heard: 360 more jobs within the hour | `notify` |
//! | [`once_cell_init_under_cancel`] | 1,200 requests in a minute, 1,200 loads begun, none ended | `single_flight` |
//! | [`concurrency_as_rate`] | ten permits make 1,000 calls a second at 10 ms, and 2 a second at 5 s | `limit_rate` |
//! | [`stream_never_waits`] | a million items pass within a limit of 0 ms, and no other task runs | `from_iter_and_interval` |
//! | [`zip_eats_an_item`] | 100 items go out, 110 are gone, and each is a period old | `from_iter_and_interval` |
//! | [`one_key_twice`] | a device that reconnects loses the 100 readings that lay there | `merge` |
//! | [`buffered_standstill`] | 9 of 10 fast calls time out while the loop's body waits | `concurrent_map` |
//! | [`trickle_never_flushes`] | a row that may wait 1 s waits 15 minutes | `micro_batch` |
//! | [`offset_paging`] | half of a list is passed over while it is worked off | `paginate` |
//! | [`swallowed_panic`] | two of ten records are not saved, and nobody is told | `task_errors` |
//! | [`paid_twice`] | a bank that needs 1.2 s books three payments, and the payer is told `timed out` | `retryable` |
//! | [`detached_by_question_mark`] | the caller has the error, and nine of ten uploads go on for nobody | `batch` |
//! | [`panic_taken_for_the_end`] | 41 of 100 rows are committed as if they were all | `pipeline` |
//! | [`try_send_dropped`] | 900 of 1,000 events are lost uncounted | `load_shedding` |
//! | [`lost_readiness`] | the first request panics below a limit; below load shedding an idle service refuses all | `service` |
//! | [`limit_outside_timeout`] | ten callers within a limit of 100 ms: the last is answered after 800 ms | `stack` |
//! | [`no_jitter`] | a thousand clients come back in the same instant: 350 are served, 650 give up | `backoff` |
//! | [`retry_storm`] | three layers of three tries are 27 calls; after a stall of 2 s the server never recovers | `retry_budget` |
//! | [`endless_pool_wait`] | four requests on four connections stand still for ever, and so does all who come later | `deadpool_pool` |
//! | [`half_transaction`] | the next user's `COMMIT` commits half a transfer: 170 of 200 are left | `transactions` |
//! | [`vacuous_paused_test`] | three test helpers that pass with a period of a year | `paused_clock` |
//! | [`entered_span`] | a span's guard across an await: events of one request carry the id of another | `spans` |
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

pub mod nested_block_on;
pub mod block_in_async;
pub mod unbounded_spawn_blocking;
pub mod await_in_a_loop;
pub mod unreaped_join_set;
pub mod stalled_local_set;
pub mod unowned_task;
pub mod kept_sender;
pub mod shared_receiver_lock;
pub mod unbounded_queue;
pub mod actors_in_a_circle;
pub mod lagged_as_closed;
pub mod unseen_first_value;
pub mod item_lost_in_select;
pub mod closed_channel_spins;
pub mod biased_starvation;
pub mod select_without_else;
pub mod select_ok_or_first;
pub mod read_exact_in_select;
pub mod no_yield_timeout;
pub mod sleep_as_interval;
pub mod burst_of_ticks;
pub mod rebuilt_sleep;
pub mod fatal_accept;
pub mod one_read_one_message;
pub mod endless_line;
pub mod ignored_half_close;
pub mod dropped_file;
pub mod accepted_and_dropped;
pub mod ctrl_c_only;
pub mod dropped_handle;
pub mod cleanup_in_drop;
pub mod guard_across_await;
pub mod futurelock;
pub mod nested_read;
pub mod lost_wakeup;
pub mod once_cell_init_under_cancel;
pub mod concurrency_as_rate;
pub mod stream_never_waits;
pub mod zip_eats_an_item;
pub mod one_key_twice;
pub mod buffered_standstill;
pub mod trickle_never_flushes;
pub mod offset_paging;
pub mod swallowed_panic;
pub mod paid_twice;
pub mod detached_by_question_mark;
pub mod panic_taken_for_the_end;
pub mod try_send_dropped;
pub mod lost_readiness;
pub mod limit_outside_timeout;
pub mod no_jitter;
pub mod retry_storm;
pub mod endless_pool_wait;
pub mod half_transaction;
pub mod vacuous_paused_test;
pub mod entered_span;
