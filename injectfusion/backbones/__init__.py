"""Networks that the method runs on, each split into an encoder half and a decoder half."""
