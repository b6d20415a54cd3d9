"""Task heads: each owns its layers, its loss and its decoding."""
