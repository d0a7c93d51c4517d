"""Programs of the benchmarks that run as environments."""
