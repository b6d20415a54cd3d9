"""Parts of the reading of image files: orientation, values of more than 8 bits, truncated and unsupported files."""
