"""metrics: images and embeddings in, numbers out. Scores any folder of results; no diffusion code."""
