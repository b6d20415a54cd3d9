"""The client of the REST interface, as the command line uses it."""
