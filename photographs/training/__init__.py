"""How the networks of the encoders are trained and measured."""
