//! cargo run --example framed_length
//!
//! A client sends frames of any bytes over TCP, and the server tells the length of each. A frame over
//! the limit is refused before it is sent; a peer that closes within one is found out.

use std::io;
use std::num::NonZeroUsize;

use ::io::framed_length::{FrameError, framed_length, read_frames};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

async fn serve(stream: TcpStream) -> Result<(), FrameError> {
    let mut frames = framed_length(stream, LIMIT);
    while let Some(frame) = frames.try_next().await? {
        frames.send(format!("{} bytes", frame.len())).await?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), FrameError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let mut client = framed_length(TcpStream::connect(address).await?, LIMIT);
    let (stream, _) = listener.accept().await?;
    let server = tokio::spawn(serve(stream));
    for frame in ["two\nlines", "", "\0\x01\x02", &"x".repeat(2000)] {
        match client.send(frame).await {
            Ok(()) => {
                if let Some(answer) = client.try_next().await? {
                    println!("{}", String::from_utf8_lossy(&answer));
                }
            }
            Err(error) => println!("not sent: {error}"),
        }
    }
    drop(client);
    server.await.map_err(io::Error::from)??;

    for bytes in [&b"\0\0\0\x09half"[..], b"GET / HTTP/1.1\r\n"] {
        let mut peer = TcpStream::connect(address).await?;
        let (stream, _) = listener.accept().await?;
        peer.write_all(bytes).await?;
        drop(peer);
        if let Some(Err(error)) = read_frames(stream, LIMIT).next().await {
            println!("not read: {error}");
        }
    }
    Ok(())
}
