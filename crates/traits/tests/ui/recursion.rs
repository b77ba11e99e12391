//! An `async fn` that calls itself would have a future of endless size, if it did not box the call.

async fn count_down(from: u32) {
    if from > 0 {
        count_down(from - 1).await;
    }
}

fn main() {}
