"""The machine, with no device opened: what the kernel tells of it, and what it lends."""
