"""How the four networks of the domain are trained and measured."""
