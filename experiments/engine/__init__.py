"""The engine: from a composed configuration to finished cells."""
