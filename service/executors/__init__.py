"""What runs attempts: processes of this host."""
