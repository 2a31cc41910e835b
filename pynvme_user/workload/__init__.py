"""The I/O engine: which I/Os a workload has, when, and whether their data is right."""
