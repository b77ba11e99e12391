//! # Pooling: share few connections among many tasks
//!
//! A connection to PostgreSQL is a process in the server. Opening one takes milliseconds, and the
//! server refuses those beyond its limit, 100 unless it was changed. So tasks take turns: a pool keeps
//! a few open, and hands each to one task at a time. What a pool must not do is wait without an end,
//! hand out what is dead, or lose a connection when its user panics or is dropped.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`deadpool_pool`] | every wait limited, every connection checked, callers in their order | a round trip to the server for the check |
//! | [`bb8_pool`] | the same; rides out a short outage, and closes idle connections | the same; a failure is told only after the whole wait |
//! | [`transactions`] | a closure in a transaction; what is dropped half way is gone before the next user's first statement | three round trips |
//! | [`recycling`] | choose what is checked when a connection is taken; ask only those that were idle | a round trip for those, or none |
//! | [`unmanaged`] | lend things that are no connections to one user at a time | nothing beside the pool |
//!
//! ## deadpool, bb8, or no pool
//!
//! Both recipes pass one suite, with the same faults. They differ here:
//!
//! | | [`deadpool_pool`] | [`bb8_pool`] |
//! | --- | --- | --- |
//! | the database is down | `get` fails at once | `get` waits and tries again, until its limit |
//! | who is next | who asked first | whoever asks when one comes back, waiting or not |
//! | who opens a connection | the caller; dropped, it stops | a task, which a dropped pool does not stop |
//! | a silent connection, thrown away | is closed | stays open until the server answers |
//! | idle connections | are kept | are closed after a time |
//! | what went wrong | in the error of `get` | in the error sink; here in the error of `get` |
//!
//! No pool is right for a program with one connection. Tasks can share a `tokio_postgres::Client` as
//! it is: their queries wait behind each other, and only a transaction needs it alone.
//!
//! `cargo bench -p pooling --bench costs` prints this table: what it costs to take a connection and
//! give it back, with PostgreSQL on a Unix socket of the same machine, two cores of a rented virtual
//! machine of 2026. Over a network, the check and the query take a round trip each, and connecting
//! takes more than one.
//!
//! | Microseconds | alone | with a query | 100 tasks, 8 connections |
//! | --- | ---: | ---: | ---: |
//! | no pool | 4084.3 | 3707 | 2634 |
//! | deadpool, `Fast` | 0.8 | 109 | 37 |
//! | deadpool, `Verified` | 67.0 | 163 | 56 |
//! | the same in [`deadpool_pool`] | 60.7 | 159 | 57 |
//! | deadpool, `Clean` | 130.4 | 221 | 89 |
//! | bb8, no check | 0.6 | 92 | 38 |
//! | bb8, with the check | 60.8 | 148 | 55 |
//! | the same in [`bb8_pool`] | 59.3 | 151 | 56 |
//!
//! - The pool itself costs less than a microsecond, either of them. What is paid for is the check, a
//!   round trip: half of a small query, and nothing beside a large one.
//! - A recipe is within 2 % of its crate, in pairs of 1,000 rounds: that is the timer of its own limit.
//! - Without a pool, every query pays for a process in the server, here forty times its own cost. The
//!   figure is for eight at once: a hundred at once are refused.
//!
//! A panic gives the connection back where it unwinds. With `panic = "abort"` in the profile, the
//! process ends.
//!
//! ## Go on with
//! - [`deadpool::managed`](https://docs.rs/deadpool/latest/deadpool/managed/index.html): the pool,
//!   its manager, its hooks and its three timeouts.
//! - [`bb8`](https://docs.rs/bb8/latest/bb8/index.html): the pool and every setting of its builder.
//! - [`tokio_postgres`](https://docs.rs/tokio-postgres/latest/tokio_postgres/index.html): the
//!   client, and pipelining: how tasks share one connection without a pool.
//! - [How Connections Are Established](https://www.postgresql.org/docs/current/connect-estab.html):
//!   why each connection is a process of the server.
//! - [About Pool Sizing](https://github.com/brettwooldridge/HikariCP/wiki/About-Pool-Sizing): why a
//!   small pool is faster than a large one, with a formula to begin with.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod deadpool_pool;
pub mod bb8_pool;
pub mod transactions;
pub mod recycling;
pub mod unmanaged;
