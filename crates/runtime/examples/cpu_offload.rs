//! cargo run --example cpu_offload
//!
//! Four computations share the cores. One panics and is reported. Another has no end: its caller
//! gives up, which tells the job to stop, and it does.

use std::error::Error;

use runtime::cpu_offload::CpuPool;
use tokio::sync::oneshot;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    std::panic::set_hook(Box::new(|_| {})); // the result tells of the panic; once is enough
    let pool = CpuPool::per_core();
    let (few, many, broken) = tokio::join!(
        pool.run(|_| primes_below(1_000)),
        pool.run(|_| primes_below(20_000)),
        pool.run(|_| primes_below(0)),
    );
    println!("primes below 1000: {}", few?);
    println!("primes below 20000: {}", many?);
    match broken {
        Ok(primes) => println!("primes below 0: {primes}"),
        Err(error) => println!("primes below 0: {error}"),
    }

    let (begin, begun) = oneshot::channel();
    let (tell, stopped) = oneshot::channel();
    let endless = pool.run(move |cancelled| {
        begin.send(()).ok();
        let last = (2..).find(|n| is_prime(*n) && cancelled.is_cancelled());
        tell.send(last.is_some()).ok();
    });
    tokio::select! {
        _ = endless => println!("all primes: done"),
        _ = begun => println!("all primes: given up"),
    }
    println!("all primes: told to stop, and stopped: {}", stopped.await?);
    Ok(())
}

fn primes_below(end: u64) -> usize {
    assert!(end > 0, "nothing is below 0");
    (2..end).filter(|n| is_prime(*n)).count()
}

fn is_prime(n: u64) -> bool {
    (2..)
        .take_while(|d: &u64| d * d <= n)
        .all(|d| !n.is_multiple_of(d))
}
