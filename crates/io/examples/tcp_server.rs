//! cargo run --example tcp_server
//!
//! An echo server and four clients, over TCP on this host. One half-closes and gets everything back,
//! one resets its connection, one falls silent for longer than the server allows, and one is still
//! there when the server is stopped. The report counts how their connections ended.

use std::num::NonZeroUsize;
use std::time::Duration;

use io::tcp_server::{Limits, bind, echo, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = bind("127.0.0.1:0").await?; // a server that others look for has a fixed port
    let address = listener.local_addr()?;
    let limits = Limits {
        connections: NonZeroUsize::MIN.saturating_add(1_999),
        idle: Duration::from_secs(1),
        write: Duration::from_secs(10),
        lifetime: Duration::from_secs(600),
        drain: Duration::from_secs(10),
    };
    let stop = CancellationToken::new();
    let handler = |connection, _client, stop| echo(connection, stop);
    let server = tokio::spawn(serve(listener, limits, stop.clone(), handler));

    let mut polite = TcpStream::connect(address).await?;
    polite.write_all(b"hello, and goodbye").await?;
    polite.shutdown().await?; // it sends no more, and still reads
    let mut answer = String::new();
    polite.read_to_string(&mut answer).await?;
    println!("polite: {answer}");

    let mut rude = TcpStream::connect(address).await?;
    println!("rude:   {}", say_hello(&mut rude).await?);
    rude.set_zero_linger()?;
    drop(rude); // resets the connection

    let mut silent = TcpStream::connect(address).await?;
    println!("silent: {}", say_hello(&mut silent).await?);
    let length = silent.read(&mut [0]).await?;
    println!("silent: {length} more bytes, the end: it had been idle for a second");

    let mut last = TcpStream::connect(address).await?;
    println!("last:   {}", say_hello(&mut last).await?);
    stop.cancel();
    let length = last.read(&mut [0]).await?;
    println!("last:   {length} more bytes, the end: the server stops");
    drop(last); // and waits for this, up to its limit
    println!("{:#?}", server.await?);
    Ok(())
}

async fn say_hello(server: &mut TcpStream) -> std::io::Result<String> {
    server.write_all(b"hello").await?;
    let mut answer = [0; 5];
    server.read_exact(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
