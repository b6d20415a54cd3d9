"""Metrics by kind of task, and the result they make."""
