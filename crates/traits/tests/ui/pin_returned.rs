//! The pin is on the stack of its function, and cannot leave it.

use std::future::Future;
use std::pin::{Pin, pin};

fn work<'a>() -> Pin<&'a mut dyn Future<Output = ()>> {
    pin!(async {})
}

fn main() {}
