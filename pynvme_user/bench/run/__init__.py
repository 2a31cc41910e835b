"""Running jobs: a worker for each queue, and what it measures."""
