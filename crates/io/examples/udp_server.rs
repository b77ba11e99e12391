//! cargo run --example udp_server
//!
//! A server that counts the letters in a datagram, over a real socket: for a plain question, an empty
//! one, one that is too long, one that makes the handler panic, and one that it takes too long over.

use std::error::Error;
use std::num::NonZeroUsize;
use std::time::Duration;

use ::io::udp_server::{Limits, bind, serve};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const LIMITS: Limits = Limits {
    datagram: NonZeroUsize::MIN.saturating_add(99),
    at_once: NonZeroUsize::MIN.saturating_add(63),
    answer: Duration::from_millis(100),
    drain: Duration::from_secs(1),
};

async fn count(text: Vec<u8>) -> Option<Vec<u8>> {
    let letters = text
        .iter()
        .filter(|byte| byte.is_ascii_alphabetic())
        .count();
    assert!(!text.contains(&b'%'), "no percent signs, please");
    if text.contains(&b'?') {
        sleep(Duration::from_secs(60)).await;
    }
    Some(format!("{letters} letters").into_bytes())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    std::panic::set_hook(Box::new(|_| {})); // the report tells of the panic
    let socket = bind("127.0.0.1:0").await?;
    let (address, stop) = (socket.local_addr()?, CancellationToken::new());
    let server = tokio::spawn(serve(socket, LIMITS, stop.clone(), |text, _peer| {
        count(text)
    }));

    let client = UdpSocket::bind("127.0.0.1:0").await?;
    client.connect(address).await?; // it now hears of no other
    for question in [
        "hello, world",
        "",
        "100 %",
        "how long?",
        &"x".repeat(101),
        "bye",
    ] {
        client.send(question.as_bytes()).await?;
        let mut buffer = [0; 100];
        let shown: String = question.chars().take(15).collect();
        match timeout(Duration::from_millis(500), client.recv(&mut buffer)).await {
            Ok(length) => {
                let answer = buffer.get(..length?).unwrap_or_default();
                println!("{shown:?}: {}", String::from_utf8_lossy(answer));
            }
            Err(_) => println!("{shown:?}: no answer"),
        }
    }
    stop.cancel();
    println!("{:#?}", server.await?);
    Ok(())
}
