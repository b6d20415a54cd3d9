"""Commands that write down what only the libraries can tell, for modules that must not import them."""
