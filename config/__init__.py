"""Stack config: the file's shape, its loading, and what is refused."""
