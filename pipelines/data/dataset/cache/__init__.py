"""What the data check stores about large data sets, so that it starts faster the next time. Torch-free."""
