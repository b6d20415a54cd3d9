"""The database: what is there, and who may write what."""
