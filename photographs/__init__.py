"""Real faces at 64 px: CelebA's frame, a diffusion U-Net, encoders, and portraits that may be redistributed."""
