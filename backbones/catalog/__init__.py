"""The catalog of networks: names, papers, licenses and measured facts. Torch-free."""
