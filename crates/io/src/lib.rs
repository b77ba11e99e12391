//! # Io: sockets, frames and files
//!
//! The other end is slow, half gone or hostile, and the kernel says so late or never. So each of these
//! has a limit on what it waits for and on what it holds, tells the end of a stream from a failure,
//! and says what became of what had been begun.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`tcp_server`] | serve clients that may be slow, broken or hostile; stop without cutting them off | 1.1 KB a connection more than a bare loop, and up to 2 % of its throughput |
//! | [`tcp_client`] | ask, and get the whole answer in time, or an error | a copy of the request; an error costs the connection |
//! | [`udp_server`] | answer datagrams, so many at once; nothing ends it | a task and a copy for each datagram |
//! | [`unix_socket`] | one server at a path, and its file gone with it | a lock's file beside the socket |
//! | [`framed_lines`] | lines of text with a length limit; a bad one is one error | a copy of each line |
//! | [`framed_length`] | messages behind their length; an end within one is an error | no copy of a message's bytes |
//! | [`split_stream`] | read and write at once, and know how each direction ended | a channel each way |
//! | [`relay`] | copy both ways between two streams, with an idle limit and true counts | two buffers; 5 % over `copy_bidirectional` for small messages, 1 % for large ones |
//! | [`durable_write`] | replace a file so that a crash leaves the old or the new | two syncs: the disk's time |
//!
//! Measured on two cores of a rented virtual machine of 2026, all rows of a table in one run; the
//! proportions will hold elsewhere, the figures may not.
//!
//! | 64 connections, `--bench tcp_server` | bare loop | recipe | a thread each |
//! | --- | ---: | ---: | ---: |
//! | 64 bytes, messages a second | 94,000 | 93,600 | 74,000 |
//! | 64 KiB, messages a second | 19,700 | 18,700 | 22,200 |
//! | memory of an idle connection, in bytes | 4,860 | 6,000 | 18,720 |
//!
//! | A round trip through two streams, `--bench relay` | `copy_bidirectional` | recipe |
//! | --- | ---: | ---: |
//! | 64 bytes over TCP | 19.9 µs | 20.8 µs |
//! | 64 KiB over TCP | 131 µs | 132 µs |
//!
//! | Reading a mebibyte, in µs, `--bench frames` | by hand, without limits | recipe | tokio-util |
//! | --- | ---: | ---: | ---: |
//! | lines of 64 bytes | 800 | 630 | 480 |
//! | lines of 64 KiB | 300 | 88 | 53 |
//! | frames of 64 bytes | 260 | 640 | 680 |
//! | frames of 64 KiB | 14 | 16 | 16 |
//!
//! A thread for each connection is faster with large messages and few clients: it waits in the kernel,
//! without a runtime between. It takes three times the memory.
//!
//! A panic is caught where it unwinds. With `panic = "abort"` in the profile none is: the process
//! ends.
//!
//! ## Go on with
//! - [`tokio::io`](https://docs.rs/tokio/latest/tokio/io/index.html): the traits behind every read
//!   and write, and the helpers on top of them.
//! - [`tokio_util::codec`](https://docs.rs/tokio-util/latest/tokio_util/codec/index.html): decoders
//!   and encoders, and how to write one for a protocol of one's own.
//! - [I/O](https://tokio.rs/tokio/tutorial/io): an echo server, and what splitting a socket means.
//! - [Framing](https://tokio.rs/tokio/tutorial/framing): from bytes to frames with a buffer, by
//!   hand.
//! - [Ensuring data reaches disk](https://lwn.net/Articles/457667/): the caches between a write and
//!   the disk, and which call empties which.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod tcp_server;
pub mod tcp_client;
pub mod udp_server;
#[cfg(unix)]
pub mod unix_socket;
pub mod framed_lines;
pub mod framed_length;
pub mod split_stream;
pub mod relay;
pub mod durable_write;
