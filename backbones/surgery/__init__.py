"""Changes to built networks."""
