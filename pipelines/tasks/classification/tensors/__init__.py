"""The half of classification that needs numpy and torch."""
