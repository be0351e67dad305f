"""The terminal application: a screen a file, over the Python client alone."""
