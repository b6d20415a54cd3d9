"""The operations of `data.augment`, by kind."""
