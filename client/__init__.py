"""Everything that a person runs: Python API, command line, cluster commands."""
