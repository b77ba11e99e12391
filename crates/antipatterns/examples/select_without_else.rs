//! cargo run --example select_without_else
//!
//! A hundred items go through a buffer of ten, and then there are no more.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use antipatterns::select_without_else::buffer;
use select::guarded_branches::pump;
use tokio::sync::mpsc::{Receiver, channel};

fn items() -> Receiver<u32> {
    let (sender, items) = channel(100);
    for item in 0..100 {
        sender.try_send(item).ok();
    }
    items
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the result tells of the panic; once is enough
    let (to, target) = channel(100);
    let ended = tokio::spawn(buffer(items(), to, 10)).await;
    println!("without else: moved {}", target.len());
    if let Err(error) = ended {
        let panic = error.into_panic();
        let message = panic.downcast_ref::<&str>().copied();
        println!("  and panicked: {}", message.unwrap_or("no message"));
    }

    let (to, target) = channel(100);
    let ten = NonZeroUsize::MIN.saturating_add(9);
    let ended = pump(&mut items(), &to, &mut VecDeque::new(), ten).await;
    println!("pump:         moved {}", target.len());
    match ended {
        Ok(()) => println!("  and ended"),
        Err(error) => println!("  {error}"),
    }
}
