"""A trained model at work: exported to a folder, answering for images."""
