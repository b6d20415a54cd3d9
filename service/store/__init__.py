"""The database: its tables, its errors, and the writers of each part."""
