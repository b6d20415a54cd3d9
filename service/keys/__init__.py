"""API keys: their text, their use cases, and the check of a presented key. Torch-free."""
