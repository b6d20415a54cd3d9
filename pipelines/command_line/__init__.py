"""The command lines of training commands; free of torch."""
