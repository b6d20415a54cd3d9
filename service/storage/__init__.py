"""Archives and other objects in storage: ports with implementations for a local folder and for S3. Torch-free."""
