//! cargo run --example signals
//!
//! A program sends itself a SIGTERM while three requests are under way. Each is finished, no other is
//! begun, and the program ends with 0, as the stop left nothing undone.

#[cfg(unix)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<std::process::ExitCode, Box<dyn std::error::Error>> {
    use std::process::ExitCode;
    use std::time::Duration;

    use shutdown::signals::ShutdownSignals;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    let token = CancellationToken::new();
    let signals = ShutdownSignals::install(token.clone())?;

    let requests = TaskTracker::new();
    for number in 1..=3 {
        let token = token.clone();
        requests.spawn(async move {
            println!("request {number} begins");
            token.cancelled().await; // so that it is under way when the signal comes
            println!("request {number} is finished");
        });
    }
    requests.close();
    tokio::task::yield_now().await;

    let this_process = rustix::process::getpid();
    rustix::process::kill_process(this_process, rustix::process::Signal::TERM)?;
    token.cancelled().await;
    let finished = tokio::time::timeout(Duration::from_secs(20), requests.wait()).await;
    let asked_by = signals.received(); // `None`: something else has cancelled the token
    let signal = asked_by.map_or_else(|| "no signal".to_owned(), |signal| signal.to_string());
    println!("stopped by {signal}: {} requests are left", requests.len());
    Ok(match (finished, asked_by) {
        (Ok(()), _) => ExitCode::SUCCESS,
        (Err(_), Some(signal)) => ExitCode::from(signal.exit_code()),
        (Err(_), None) => ExitCode::FAILURE,
    })
}

#[cfg(not(unix))]
fn main() {
    println!("a program cannot send itself a SIGTERM here: run it on Unix");
}
