"""Errors, files, images, devices, checkpoints, assets, progress: used by all packages, importing none of them."""
