"""The process that runs the queue: it starts attempts, watches them, and records their ends."""
