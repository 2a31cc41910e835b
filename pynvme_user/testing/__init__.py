"""A software NVMe controller, in C: for tests and benchmarks of the driver, and of what uses it."""
