"""Label files joined into one checked index of images; torch-free."""
