//! # Ctrl-C only: `tokio::signal::ctrl_c()` and no SIGTERM
//!
//! The program waits for Ctrl-C, finishes what it has begun, and cleans up. In the terminal that
//! works. Systemd, Docker and Kubernetes do not press Ctrl-C: they send SIGTERM, and the system's
//! answer to a SIGTERM that nobody has asked for is to end the process.
//!
//! ## You have it when
//! - it stops well in the terminal, and after each deployment requests are lost, temporary files and
//!   locks are left, and the last log lines are missing;
//! - the exit code is 143, or the status `signal: 15 (SIGTERM)`;
//! - `docker stop` takes ten seconds, and the exit code is 137: process 1 of a container gets no
//!   signal that it does not listen for, until SIGKILL;
//! - pressed a second time, Ctrl-C no longer does anything.
//!
//! ## What it does to you
//! - A SIGTERM ends it at once: nothing after the wait is run, and no destructor.
//! - After the first Ctrl-C there is no other: tokio keeps the signal, and a second one does not end
//!   a cleanup that hangs.
//!
//! ## Use instead
//! - `signals`: SIGINT and SIGTERM both cancel a token, and the second one ends the process;
//! - then `graceful_shutdown` or `ordered_stop` for the cleanup itself.

use std::io;

use tokio::select;
use tokio::signal::ctrl_c;

/// Serves until Ctrl-C is pressed, and cleans up.
///
/// # Errors
///
/// If it cannot listen for Ctrl-C.
pub async fn run(
    serve: impl Future<Output = ()>,
    clean_up: impl Future<Output = ()>,
) -> io::Result<()> {
    select! {
        () = serve => {}
        pressed = ctrl_c() => pressed?, // SIGINT, and no other
    }
    clean_up.await;
    Ok(())
}
