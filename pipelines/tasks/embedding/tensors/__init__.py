"""The half of embedding that needs numpy and torch."""
