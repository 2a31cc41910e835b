"""The driver: controllers, their namespaces and queue pairs, over any transport."""
