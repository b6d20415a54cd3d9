"""Label formats: for each one the layer in the document and its reader."""
