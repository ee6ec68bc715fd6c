"""Errors, files, images, devices, checkpoints, assets, progress: shared by all packages, imports none of them."""
