"""The kinds of tasks, one folder each, behind one contract. Only the folders `tensors` need torch."""
