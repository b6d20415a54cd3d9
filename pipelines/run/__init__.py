"""Attempts at a run, from the document to the result, and commands that use a finished run."""
