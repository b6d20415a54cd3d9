"""Networks that neither timm nor torchvision has, each a module from images to its maps."""
