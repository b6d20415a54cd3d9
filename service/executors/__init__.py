"""Executors, which run attempts: their contract, their registry, and the one for processes of this host."""
