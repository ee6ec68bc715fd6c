"""Domains: images by id, fixed pairs of them, and the reference images of the Fréchet distance."""
