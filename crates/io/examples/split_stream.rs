//! cargo run --example split_stream
//!
//! A client sends 32 MiB over TCP to a server that answers while it still receives: far more than
//! the buffers between them hold, so each must read while its own writes wait. A second client
//! resets its connection half way. The report tells the one end from the other.

use std::num::NonZeroUsize;

use bytes::Bytes;
use io::split_stream::{ReadEnd, Received, Report, full_duplex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const CHUNK: NonZeroUsize = NonZeroUsize::MIN.saturating_add(64 * 1024 - 1);

/// Sends back what it receives. To stop it early, cancel the token.
async fn echo(mut stream: TcpStream) -> Report {
    let (to_program, mut incoming) = mpsc::channel(4);
    let (outgoing, to_stream) = mpsc::channel(4);
    let program = async move {
        while let Some(Received::Bytes(bytes)) = incoming.recv().await {
            if outgoing.send(bytes).await.is_err() {
                return; // the report says why
            }
        }
    }; // here `outgoing` is dropped: the rest is written, and the peer told of the end
    let (reader, writer) = stream.split();
    let stop = CancellationToken::new();
    let run = full_duplex(reader, writer, CHUNK, to_program, to_stream, &stop);
    let (report, ()) = tokio::join!(run, program);
    report
}

fn print(who: &str, report: &Report) {
    let reading = match &report.reading {
        ReadEnd::Failed(error) => format!("Failed({:?})", error.kind()),
        other => format!("{other:?}"),
    };
    println!("{who}");
    println!("  reading: {reading} after {} bytes", report.received);
    println!(
        "  writing: {:?} after {} bytes",
        report.writing, report.sent
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (reader, writer) = TcpStream::connect(address).await?.into_split();
    let server = tokio::spawn(echo(listener.accept().await?.0));
    let (to_program, mut incoming) = mpsc::channel(4);
    let (outgoing, to_stream) = mpsc::channel(4);
    let client = tokio::spawn(async move {
        let stop = CancellationToken::new();
        full_duplex(reader, writer, CHUNK, to_program, to_stream, &stop).await
    });
    let sends = tokio::spawn(async move {
        let mebibyte = Bytes::from(vec![7; 1024 * 1024]);
        for _ in 0..32 {
            outgoing.send(mebibyte.clone()).await.ok(); // a failure is in the report
        }
    });
    let mut complete = false;
    while let Some(received) = incoming.recv().await {
        complete = received == Received::End;
    }
    sends.await?;
    print("a patient client", &client.await?);
    println!("  it has everything: {complete}");
    print("its server", &server.await?);

    let mut rude = TcpStream::connect(address).await?;
    let server = tokio::spawn(echo(listener.accept().await?.0));
    rude.write_all(b"hello").await?;
    rude.read_exact(&mut [0; 5]).await?;
    rude.set_zero_linger()?;
    drop(rude); // resets the connection
    print("the server of a rude client", &server.await?);
    Ok(())
}
