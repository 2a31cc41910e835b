"""The benchmark: jobs, the loop that runs them, and what comes out of it."""
