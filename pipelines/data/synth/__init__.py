"""The demo data set: drawn images and their label files. Torch-free."""
