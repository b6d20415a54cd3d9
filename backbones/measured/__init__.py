"""Commands that record facts about the installed libraries and networks, for torch-free modules."""
