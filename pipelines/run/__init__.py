"""One attempt at a run, from document to result; and going back to one."""
