//! cargo run --example service
//!
//! A warehouse that packs two orders at once, behind a lookup of the customer's address. Five orders
//! come together; one is for nobody. Then somebody takes a place without an order. Virtual time.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::FutureExt;
use middleware::service::{Limited, LimitedError, Prepare};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower::{Service, ServiceExt};

type Order = (&'static str, &'static str);
type Address = (&'static str, String);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), LimitedError<&'static str>> {
    let started = Instant::now();
    let at = move || started.elapsed().as_millis();
    let two = NonZeroUsize::MIN.saturating_add(1);
    let packing = Limited::new(two, async |(order, address): Address| {
        sleep(Duration::from_millis(100)).await;
        Ok::<_, &str>(format!("{order} for {address}"))
    });
    let warehouse = Prepare::new(packing.clone(), async |(order, customer): Order| {
        sleep(Duration::from_millis(20)).await; // the place is held from here
        match customer {
            "nobody" => Err(LimitedError::Failed("no such customer")),
            name => Ok((order, format!("{name}'s house"))),
        }
    });

    let mut orders = JoinSet::new();
    for order in [
        ("tea", "Ada"),
        ("ink", "nobody"),
        ("rope", "Kay"),
        ("salt", "Lin"),
        ("figs", "Ada"),
    ] {
        let packed = warehouse.clone().oneshot(order);
        orders.spawn(packed.map(move |result| (order.0, result)));
    }
    while let Some(Ok((order, result))) = orders.join_next().await {
        match result {
            Ok(parcel) => println!("{:>3} ms  packed {parcel}", at()),
            Err(LimitedError::Failed(why)) => println!("{:>3} ms  {order}: {why}", at()),
            Err(error) => println!("{:>3} ms  {order}: {error}", at()),
        }
    }

    let (mut first, mut second) = (packing.clone(), packing.clone());
    first.ready().await?;
    second.ready().await?;
    println!("{:>3} ms  two are ready, and have nothing to pack", at());
    let waits = timeout(Duration::from_millis(50), packing.clone().ready_oneshot()).await;
    println!("{:>3} ms  a third is ready: {}", at(), waits.is_ok());
    drop(first); // the place that it had is free again
    packing.clone().ready_oneshot().await?;
    println!("{:>3} ms  a third is ready, now that one has left", at());

    packing.close();
    if let Err(error) = packing.clone().ready_oneshot().await {
        println!("{:>3} ms  a newcomer: {error}", at());
    }
    let parcel = second.call(("oil", "Kay's house".to_owned())).await?;
    println!(
        "{:>3} ms  packed {parcel}: its place was taken before",
        at()
    );
    Ok(())
}
