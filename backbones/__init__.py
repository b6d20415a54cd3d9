"""Image backbones under one contract, and the pyramid neck on top of them."""
