"""Readers of records: text files and the terminal, the report page, Weights & Biases."""
