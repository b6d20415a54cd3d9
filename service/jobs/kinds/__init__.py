"""The kinds of jobs: one file with a class each, and a row in `registry`."""
