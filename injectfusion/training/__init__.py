"""Training of networks: one loop for all of them, and the objective of the diffusion U-Nets."""
