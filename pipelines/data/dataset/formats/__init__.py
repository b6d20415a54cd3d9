"""One reader for each label format."""
