"""Drafting a document for a folder of images and labels; torch-free."""
