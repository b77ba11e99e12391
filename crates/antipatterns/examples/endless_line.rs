//! cargo run --example endless_line
//!
//! A peer sends 32 MiB without a newline, through a pipe of 64 KiB, and then a line. What do the two
//! readers hold of it before the newline comes?

use std::io;
use std::num::NonZeroUsize;

use ::io::framed_lines::read_lines;
use antipatterns::endless_line::serve;
use futures_util::StreamExt;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

const LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

async fn send(mut peer: DuplexStream) -> io::Result<()> {
    let piece = vec![b'x'; 1024 * 1024];
    for _ in 0..32 {
        peer.write_all(&piece).await?;
    }
    println!("  32 MiB are sent");
    peer.write_all(b"\nnext\n").await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    println!("BufReader::lines:");
    let (peer, stream) = duplex(64 * 1024);
    let serve = serve(stream, |line| println!("  a line of {} bytes", line.len()));
    tokio::try_join!(send(peer), serve)?;

    println!("framed_lines:");
    let (peer, stream) = duplex(64 * 1024);
    let mut lines = read_lines(stream, LIMIT);
    let serve = async {
        while let Some(line) = lines.next().await {
            match line? {
                Ok(line) => println!("  a line of {} bytes", line.len()),
                Err(error) => println!("  {error}"),
            }
        }
        Ok(())
    };
    tokio::try_join!(send(peer), serve)?;
    Ok(())
}
