"""The kinds of tasks, one folder each, with one contract. Only the folders `tensors` need torch."""
