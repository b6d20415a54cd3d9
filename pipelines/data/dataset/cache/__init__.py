"""Results of the data check that are stored, so that it starts faster the next time. Torch-free."""
