"""Data sets of clients: uploads, safe extraction, data checks, and versions that jobs name. Torch-free."""
