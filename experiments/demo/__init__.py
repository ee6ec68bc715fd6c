"""A page to try the method on two pictures: `python -m experiments.demo`."""
