"""The half of detection that needs numpy and torch."""
