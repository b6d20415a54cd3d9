"""Checks of the data, the report that counts their findings, and its text. Torch-free."""
