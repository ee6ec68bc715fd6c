"""Shared by all packages, none of which it imports: errors, files, images, devices, checkpoints, assets, progress."""
