//! cargo run --example buffer_layer
//!
//! A connection that cannot be cloned, shared by three tasks. The third request makes it panic: those
//! that waited behind it fail, the owner hears why, and makes a new one. The clock is virtual.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use middleware::buffer_layer::buffered;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower::{Service, ServiceExt};

/// Numbers its requests. There is one of it, and it is not `Clone`.
struct Connection {
    requests: u32,
}

impl Service<char> for Connection {
    type Response = String;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<String, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: char) -> Self::Future {
        self.requests += 1;
        let number = self.requests;
        assert!(request != '?', "request {number} is malformed");
        Box::pin(async move {
            sleep(Duration::from_millis(100)).await;
            Ok(format!("{request} was request {number}"))
        })
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the owner is told of the panic; once is enough
    let waiting = NonZeroUsize::MIN.saturating_add(9);
    for (connection, requests) in [(1, ['a', 'b', '?', 'd']), (2, ['a', 'b', 'c', 'd'])] {
        println!("connection {connection}");
        let (handle, mut worker) = buffered(Connection { requests: 0 }, waiting);
        let mut calls = JoinSet::new();
        for request in requests {
            let call = handle.clone().oneshot(request);
            calls.spawn(call.map(move |result| (request, result)));
        }
        drop(handle);
        while let Some(Ok((request, result))) = calls.join_next().await {
            match result {
                Ok(answer) => println!("  {answer}"),
                Err(error) => println!("  {request} failed: {error}"),
            }
        }
        match worker.ended().await {
            Ok(()) => println!("  the worker is done"),
            Err(error) => println!("  {error}"),
        }
    }
}
