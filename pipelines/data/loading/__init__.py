"""From the index to batches on the way to the network."""
