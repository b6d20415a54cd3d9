"""Assigning classes to whole images."""
