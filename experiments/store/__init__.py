"""The store: cells on disk, and where their numbers were made."""
