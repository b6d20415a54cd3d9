"""The settings of the operations of `data.augment`, by kind."""
