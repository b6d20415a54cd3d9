"""Which networks there are, and what is known of them. Torch-free."""
