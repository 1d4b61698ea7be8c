//! The `tune` command line.
fn main() {}
