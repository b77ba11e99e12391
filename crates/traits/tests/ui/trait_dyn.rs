//! A trait with an `async fn` cannot be behind `dyn`.

trait Store {
    async fn get(&self) -> u8;
}

fn behind_dyn(_: &dyn Store) {}

fn main() {}
