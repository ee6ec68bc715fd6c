"""Networks that turn images into what the metrics measure."""
