"""Files that a configuration needs but the project does not ship."""
