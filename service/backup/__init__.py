"""Backups of a service: its database, its MLflow store and its files, consistent with each other. Torch-free."""
