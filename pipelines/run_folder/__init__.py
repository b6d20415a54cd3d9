"""The run folder is the interface: where each file lies, and how it is written, claimed and read."""
