"""The machine, with no device opened: what the kernel says of it, and what a driver needs of it."""
