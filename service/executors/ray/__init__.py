"""The executor `ray`: attempts as jobs of a Ray cluster, by its REST API; Ray itself is not imported."""
