//! cargo run --example mock_io
//!
//! Two clients ask for a value. Against a peer that answers in one piece both are right; against one
//! that pauses, ends or fails at each byte in turn, only one is.

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use testing::mock_io::{Delivery, Link, Step, Stream, every_delivery};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_test::io::Builder;

/// Takes what one read gives for the answer.
async fn hasty(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    stream.write_all(b"get name\n").await?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).await?;
    let text = answer.get(1..length).unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Reads as many bytes as the answer says that it has.
async fn careful(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    stream.write_all(b"get name\n").await?;
    let length = stream.read_u8().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn attempt(name: &str, client: impl AsyncFn(Stream) -> io::Result<String>) {
    let link = Link {
        capacity: NonZeroUsize::MIN.saturating_add(63),
        pause: Duration::from_secs(1),
        limit: Duration::from_secs(60),
    };
    let script = [Step::Expect(b"get name\n"), Step::Send(b"\x05ferri")];
    let check = |delivery, outcome: io::Result<String>| match delivery {
        Delivery::EndAfter(_) | Delivery::ErrorAfter(_) => assert!(outcome.is_err()),
        _ => assert!(
            matches!(&outcome, Ok(name) if name == "ferri"),
            "got {outcome:?}"
        ),
    };
    match every_delivery(link, &script, client, check).await {
        Ok(rounds) => println!("{name}: right in all of {rounds} rounds"),
        Err(found) => println!("{name}: {found}"),
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // what was found tells of the panic; once is enough
    let mock = || {
        Builder::new()
            .write(b"get name\n")
            .read(b"\x05ferri")
            .build()
    };
    println!(
        "a fixed script: {:?}, {:?}",
        hasty(mock()).await,
        careful(mock()).await
    );
    attempt("hasty", async |stream| hasty(stream).await).await;
    attempt("careful", async |stream| careful(stream).await).await;
}
