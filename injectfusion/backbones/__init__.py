"""Networks that the method runs on, each split at its bottleneck."""
