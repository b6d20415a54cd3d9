"""Finding objects as boxes with classes."""
