"""Archives in storage: a port with implementations for a local folder and for S3. Torch-free."""
