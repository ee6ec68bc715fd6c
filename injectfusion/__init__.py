"""InjectFusion: training-free content injection in the h-space of diffusion U-Nets (arXiv 2303.15403)."""
