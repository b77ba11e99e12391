//! # Select: wait for several things at once
//!
//! `select!` polls its branches in one task, takes the first that is ready and drops the others. Most
//! of what goes wrong around it is in that last word: whatever a dropped branch had done so far is
//! gone, unless it was kept somewhere else. The recipes keep it.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`event_loop`] | commands, a heartbeat and a stop, none of which holds up the others | no task and no lock; one command at a time |
//! | [`shutdown_first`] | two sources and a stop: the stop always wins, nobody starves | one future per item |
//! | [`guarded_branches`] | a bounded buffer between two channels, in an order of yours | up to the buffer's limit in memory |
//! | [`resume`] | one long operation beside a loop's other events, its progress kept | one allocation per operation |
//! | [`first_success`] | the first good answer of several, and every error if there is none | one allocation per attempt |
//! | [`frame_reader`] | frames of a protocol of yours, read where a read may be dropped | a buffer of up to the largest frame |
//!
//! ## What can be dropped in `select!`
//!
//! When one branch is done, `select!` drops the futures of all others. In a loop that happens on every
//! turn, so whatever a call had done by then must be somewhere else than in its future. A call is safe
//! in `select!` if a drop at any moment loses nothing, and calling it again goes on from there. Each
//! line is a test, `cargo test -p select --test page`, on the versions in `Cargo.lock`.
//!
//! | Call | Safe | What a drop loses or leaves |
//! | --- | --- | --- |
//! | `mpsc::Receiver::recv`, `mpsc::Receiver::recv_many` | yes | |
//! | `mpsc::Sender::send` | no | the message. `reserve` first, as `forward` does |
//! | `mpsc::Sender::reserve` | its place | |
//! | `mpsc::Sender::closed` | yes | |
//! | `oneshot::Receiver` | no | the message; the sender gets it back if it sends after the drop |
//! | `&mut oneshot::Receiver` | yes | |
//! | `broadcast::Receiver::recv` | yes | |
//! | `watch::Receiver::changed` | yes | |
//! | `watch::Receiver::wait_for` | yes | values that it looked at and passed over count as seen |
//! | `Notify::notified` | its place | a `notify_waiters` between two calls wakes neither |
//! | `Semaphore::acquire`, `Mutex::lock`, `RwLock::read`, `RwLock::write` | its place | |
//! | `OnceCell::get_or_init` | no | the work of the initialization; the next caller begins anew |
//! | `Barrier::wait` | no | its arrival still counts: the others set off without it |
//! | `sleep` | no | the time that has passed: in a loop with faster branches it never ends |
//! | `&mut Sleep`, `sleep_until` | yes | |
//! | `Interval::tick` | yes | |
//! | `timeout` | no | the time that has passed, and the future in it |
//! | `JoinHandle`, `spawn_blocking` | runs on | the task's result, or its panic |
//! | `&mut JoinHandle` | yes | |
//! | `AbortOnDropHandle` | no | the task: it is aborted |
//! | `JoinSet::join_next` | yes | |
//! | `JoinSet::join_all` | no | every task: all are aborted, and the results that were there are gone |
//! | `TaskTracker::wait`, `CancellationToken::cancelled` | yes | |
//! | `TcpListener::accept` | yes | |
//! | `TcpStream::connect` | no | the connection, which the peer may already have accepted |
//! | `TcpStream::readable` | yes | a stream that was just accepted is taken for readable until a read finds nothing |
//! | `UdpSocket::recv_from` | yes | |
//! | `AsyncReadExt::read`, `AsyncReadExt::read_buf` | yes | |
//! | `AsyncReadExt::read_u32` | no | up to three bytes |
//! | `AsyncReadExt::read_exact` | no | how many bytes it had read. `frame_reader` keeps them |
//! | `AsyncReadExt::read_to_end` | no | how many bytes it had read; they are in the vector, though tokio promises it nowhere |
//! | `AsyncReadExt::read_to_string` | no | what it had read, and what the string held before |
//! | `AsyncBufReadExt::read_line` | no | what it had read, and what the string held before |
//! | `AsyncBufReadExt::read_until` | yes | with the same vector again: part of the line is in it |
//! | `Lines::next_line`, `AsyncBufReadExt::fill_buf` | yes | |
//! | `AsyncWriteExt::write`, `AsyncWriteExt::write_buf` | yes | |
//! | `AsyncWriteExt::write_all` | no | how much it had written; called again, it begins at the first byte |
//! | `AsyncWriteExt::write_all_buf` | yes | with the same buffer again: it is advanced by what was written |
//! | `AsyncWriteExt::flush`, `AsyncWriteExt::shutdown` | yes | |
//! | `io::copy`, `io::copy_bidirectional` | no | what was read and not yet written, and the counts |
//! | `fs::write`, `fs::remove_file` | runs on | the result; the work is a thread's, which nothing stops |
//! | `Child::wait` | yes | the first poll closes the child's stdin |
//! | `Child::wait_with_output` | no | the output. The child lives on, unless it has `kill_on_drop` |
//! | `Signal::recv` | yes | |
//! | `ctrl_c` | no | a signal that comes between two calls. Keep a `Signal` instead |
//! | `StreamExt::next`, `StreamMap::next`, `FuturesUnordered::next`, `DelayQueue::next`, `Framed::next` | yes | |
//! | `Framed::feed` | no | the item, if it had to wait for room |
//! | `Framed::send` | no | the item, if it had to wait for room; else it is in the buffer and leaves with the next flush |
//!
//! *Its place*: nothing is lost but the place in a queue that is served in order. What it was given
//! and did not take goes to the next. Dropped again and again while others wait, it may never have its
//! turn; a future that is pinned outside of the loop and polled by `&mut` keeps its place.
//! *Runs on*: dropping the future does not stop the work.
//!
//! ## Go on with
//! - [`tokio::select!`](https://docs.rs/tokio/latest/tokio/macro.select.html): the rules of the
//!   macro, and which calls tokio itself promises to be safe in it.
//! - [Select](https://tokio.rs/tokio/tutorial/select): the macro from its syntax to loops that
//!   resume an operation.
//! - [Async cancellation: a case study of pub-sub in mini-redis](https://smallcultfollowing.com/babysteps/blog/2022/06/13/async-cancellation-a-case-study-of-pub-sub-in-mini-redis/):
//!   one loop around `select!`, all that it gets right, and how easily it would not.
//! - [Cancelling async Rust](https://sunshowers.io/posts/cancelling-async-rust/): how dropped
//!   futures break what a whole program relies on, and ways out.
//! - [RFD 609: Futurelock](https://rfd.shared.oxide.computer/rfd/0609): a deadlock of another kind:
//!   a future that holds a lock is neither dropped nor polled.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod event_loop;
pub mod shutdown_first;
pub mod guarded_branches;
pub mod resume;
pub mod first_success;
pub mod frame_reader;
