"""Sweeps as use cases: check, start, list, view, cancel and delete; and what Optuna suggests. Torch-free."""
