"""The nodes of a run on several machines: their settings, their connections, and the processes that each starts."""
