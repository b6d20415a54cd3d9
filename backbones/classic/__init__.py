"""Networks that are not in timm or torchvision. Each module turns images into maps."""
