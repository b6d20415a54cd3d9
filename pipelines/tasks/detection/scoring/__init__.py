"""Scores of detections. Torch-free: `pyramidion eval` scores files of other programs."""
