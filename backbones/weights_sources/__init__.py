"""Places from which pretrained weights come, behind one contract. Torch-free."""
