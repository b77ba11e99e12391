//! cargo run --example ctrl_c_only
//!
//! Starts itself as a service, once for each way to listen and each signal, and says how it ends.

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    if let Some(listener) = std::env::args().nth(1) {
        return service(&listener);
    }
    for listener in ["ctrl_c", "signals"] {
        for (name, signal) in [("SIGINT", Signal::INT), ("SIGTERM", Signal::TERM)] {
            let mut service = Command::new(std::env::current_exe()?);
            let mut service = service.arg(listener).stdout(Stdio::piped()).spawn()?;
            let mut output = BufReader::new(service.stdout.take().ok_or("no output")?);
            let mut said = String::new();
            output.read_line(&mut said)?;
            let pid = Pid::from_raw(service.id().try_into()?).ok_or("no process")?;
            kill_process(pid, signal)?;
            output.read_to_string(&mut said)?;
            println!("{listener:7} {name:7}: {said:?}, {}", service.wait()?);
        }
    }
    Ok(())
}

/// Serves until a signal comes, and cleans up.
#[cfg(unix)]
#[tokio::main(flavor = "current_thread")]
async fn service(listener: &str) -> Result<(), Box<dyn std::error::Error>> {
    use antipatterns::ctrl_c_only::run;
    use shutdown::signals::ShutdownSignals;

    let serve = async {
        tokio::task::yield_now().await; // until it listens
        println!("serving");
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    };
    let clean_up = async { println!("clean") };
    if listener == "ctrl_c" {
        return Ok(run(serve, clean_up).await?);
    }
    let token = tokio_util::sync::CancellationToken::new();
    let _signals = ShutdownSignals::install(token.clone())?;
    token.run_until_cancelled(serve).await;
    clean_up.await;
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("there is no SIGTERM here: run it on Unix");
}
