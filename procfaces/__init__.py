"""procfaces: procedural faces with known truth, and the small networks trained on them."""
