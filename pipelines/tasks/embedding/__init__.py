"""Vectors of images or objects that are close where identities are equal."""
