//! The `lineside` program.

fn main() {}
