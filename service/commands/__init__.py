"""The commands of `pyramidion`, one file each."""
