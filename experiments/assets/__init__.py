"""Files that a configuration needs and the project does not ship."""
