//! cargo run --example udp_server
//!
//! A server that answers in capitals, and a client, over UDP on this host. One request is empty, one
//! has no answer, one is longer than the server allows, and one makes its handler panic; then the
//! server is stopped. The report counts how they ended.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use io::udp_server::{Limits, bind, serve};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    std::panic::set_hook(Box::new(|_| {})); // the report counts the panics
    let socket = bind("127.0.0.1:0").await?; // a server that others look for has a fixed port
    let address = socket.local_addr()?;
    let limits = Limits {
        datagram: 20,
        in_flight: NonZeroUsize::MIN.saturating_add(999),
        answer: Duration::from_secs(5),
        drain: Duration::from_secs(5),
        abort: Duration::from_secs(1),
    };
    let stop = CancellationToken::new();
    let handler = async |request: Vec<u8>, _client| {
        assert_ne!(request, b"panic", "as it was asked to");
        (request != b"quiet").then(|| request.to_ascii_uppercase())
    };
    let server = tokio::spawn(serve(Arc::new(socket), limits, stop.clone(), handler));

    let client = UdpSocket::bind("127.0.0.1:0").await?;
    client.connect(address).await?; // only the server's datagrams are received
    println!("{}", ask(&client, "hello").await?);
    println!("{}", ask(&client, "").await?);
    for request in ["quiet", "longer than it may be", "panic"] {
        client.send(request.as_bytes()).await?; // no answer will come
    }
    println!("{}", ask(&client, "bye").await?);
    stop.cancel();
    println!("{:#?}", server.await?);
    Ok(())
}

/// Gives up after a while: request and answer may be lost on their way. To ask again, number them, or
/// a late answer is taken for the next one's.
async fn ask(server: &UdpSocket, request: &str) -> std::io::Result<String> {
    server.send(request.as_bytes()).await?;
    let mut buffer = [0; 100];
    let length = timeout(Duration::from_secs(10), server.recv(&mut buffer)).await??;
    let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
    Ok(format!("{request:?} -> {answer:?}"))
}
