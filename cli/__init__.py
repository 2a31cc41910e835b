"""The nvme-user command."""
