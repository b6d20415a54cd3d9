"""The processes of `pyramidion serve`."""
