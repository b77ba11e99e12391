//! The `cargo cookbook` command.
fn main() {}
