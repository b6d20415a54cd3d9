"""Sections of the job document that describe a network, with their checks. Torch-free."""
