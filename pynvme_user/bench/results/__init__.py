"""What a run came to: as text, JSON and logs, and compared with others."""
