"""The networks of the encoders, for (B, 3, 64, 64) float32 images in [-1, 1]."""
