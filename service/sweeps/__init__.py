"""Jobs as use cases: submit, list, view, change the priority, cancel, retry and delete. Torch-free."""
