"""Retention: rules that say which files and rows of ended jobs may be deleted, and their deletion. Torch-free."""
