"""Decode untrusted images in processes of their own, which are killed at their deadline. Torch-free."""
