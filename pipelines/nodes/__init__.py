"""The nodes of a run on several machines: their settings, how they talk, and how each starts its processes."""
