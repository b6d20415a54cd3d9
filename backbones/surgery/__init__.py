"""Changes of a network that is built already."""
