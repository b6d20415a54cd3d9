"""The run folder: the path of every file, the schema of every JSON file and event, and how they are read and written.

It is the interface between training and the service. Torch-free.
"""
