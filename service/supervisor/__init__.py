"""The process that runs the queue: it starts attempts, watches them, and writes down how they end."""
