"""Networks that encode images for the metrics."""
