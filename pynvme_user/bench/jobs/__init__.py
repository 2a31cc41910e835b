"""What is to be run: options, job files, sweeps and traces."""
