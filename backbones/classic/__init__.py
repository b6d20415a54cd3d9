"""Networks that timm and torchvision lack. Each module turns images into maps."""
