//! cargo run --example async_lock
//!
//! Orders take seats from a hall, and each is paid while the hall is locked. One is refused by the
//! bank, one is given up half way, one would not wait: none of them leaves a seat taken. The clock
//! is virtual.

use std::time::Duration;

use sync::async_lock::AsyncLock;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

#[derive(Clone, Debug)]
struct Hall {
    free: u32,
    sold: Vec<&'static str>,
}

const MS: Duration = Duration::from_millis(1);

async fn pay(name: &str) -> Result<(), &'static str> {
    sleep(100 * MS).await;
    (name != "Bo").then_some(()).ok_or("not enough money")
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let hall = AsyncLock::new(Hall {
        free: 10,
        sold: Vec::new(),
    });
    let mut orders = JoinSet::new();
    for (name, wait, give_up) in [
        ("Ann", 500 * MS, 500 * MS),
        ("Bo", 500 * MS, 500 * MS),
        ("Cy", 500 * MS, 250 * MS),
        ("Di", 225 * MS, 500 * MS),
        ("Eve", 500 * MS, 500 * MS),
    ] {
        let hall = hall.clone();
        orders.spawn(async move {
            let order = async |hall: &mut Hall| {
                hall.free -= 1; // on a draft
                pay(name).await?;
                hall.sold.push(name);
                Ok::<_, &str>(hall.free)
            };
            let result = match timeout(give_up, hall.update(wait, order)).await {
                Ok(Ok(free)) => format!("sold, {free} left"),
                Ok(Err(error)) => format!("{error:?}"),
                Err(_) => "gave up while paying".to_owned(),
            };
            println!("{:>3} ms  {name}: {result}", started.elapsed().as_millis());
        });
    }
    orders.join_all().await;
    match hall.draft(Duration::ZERO).await {
        Ok(hall) => println!("{} free, sold to {}", hall.free, hall.sold.join(" and ")),
        Err(busy) => println!("{busy}"),
    }
}
