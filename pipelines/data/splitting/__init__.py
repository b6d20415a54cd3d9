"""Dividing one set of images into train, val and test; torch-free."""
