"""Explanations of single predictions: which parts of an image a score depends on."""
