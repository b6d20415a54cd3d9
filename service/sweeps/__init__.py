"""Sweeps as use cases: check, start, list, view, cancel and delete; and the suggestions of Optuna. Torch-free."""
