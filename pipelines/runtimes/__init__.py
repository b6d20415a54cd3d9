"""Runtimes that compute an exported network."""
