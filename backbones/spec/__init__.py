"""Torch-free specifications of networks: the sections of the job document, their checks and what they resolve to."""
