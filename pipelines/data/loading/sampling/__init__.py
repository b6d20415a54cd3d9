"""Samplers: the images of each batch on each rank, as functions of (seed, epoch)."""
