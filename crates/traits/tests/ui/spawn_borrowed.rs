//! A spawned task cannot borrow from the function that spawns it, even if that awaits it.

#[tokio::main]
async fn main() {
    let text = String::from("local");
    let borrowed = &text;
    let length = tokio::spawn(async move { borrowed.len() });
    println!("{:?}", length.await);
}
