"""One network that is described by data."""
