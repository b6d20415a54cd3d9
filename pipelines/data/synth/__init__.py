"""The demo data set, drawn and written as real files. Torch-free."""
