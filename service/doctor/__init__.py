"""Checks of an installation and of a service, with what to do about each failed check. Torch-free."""
