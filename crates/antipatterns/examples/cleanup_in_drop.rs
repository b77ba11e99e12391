//! cargo run --example cleanup_in_drop
//!
//! Three programs write a line to a buffered writer and end: the flush is blocked on in `Drop`, or
//! spawned there, or a `close` is awaited.

use std::time::Duration;

use antipatterns::cleanup_in_drop::{FlushBlocking, FlushSpawned};
use shutdown::async_close::MustClose;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex};

type Writer = BufWriter<DuplexStream>;

/// Runs a `main` of its own with a writer that holds a line back, and prints what arrived.
#[tokio::main(flavor = "current_thread")]
async fn print(name: &str, program: fn(Writer)) -> std::io::Result<()> {
    let (near, mut far) = duplex(64);
    let mut writer = BufWriter::new(near);
    writer.write_all(b"goodbye").await?;
    let ended = std::thread::spawn(move || program(writer)).join();
    let mut arrived = String::new();
    far.read_to_string(&mut arrived).await?;
    let ended = ended.map_or("panicked", |()| "ended");
    println!("{name} {ended}, arrived: {arrived:?}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn blocks(writer: Writer) {
    let _log = FlushBlocking(writer);
}

#[tokio::main(flavor = "current_thread")]
async fn spawns(writer: Writer) {
    let _log = FlushSpawned(Some(writer));
}

#[tokio::main(flavor = "current_thread")]
async fn closes(writer: Writer) {
    let log = MustClose::new("log", writer);
    if let Err(error) = log.close(Duration::from_secs(1)).await {
        println!("{error}");
    }
}

fn main() -> std::io::Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    print("block_on in Drop:", blocks)?;
    print("spawn in Drop:   ", spawns)?;
    print("async_close:     ", closes)
}
