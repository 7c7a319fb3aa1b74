"""Pure functions from config to the documents that others read."""
