"""The half of the contract that needs numpy and torch, and what the kinds share in it."""
