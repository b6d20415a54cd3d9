"""Shipped recipes: `--config recipe:NAME`."""
