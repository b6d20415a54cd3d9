"""Foundations that every package of pipelines may use; free of torch."""
