//! cargo bench -p observability --bench costs

fn main() {}
