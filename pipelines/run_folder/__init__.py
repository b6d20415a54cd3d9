"""The run folder is the interface: where each file lies, and how it is written and read."""
