"""Image backbones with one contract, and the feature pyramid on top of them."""
