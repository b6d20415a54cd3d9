"""What can be wrong with data: findings, the report that counts them, and its text. Torch-free."""
