"""The lock store against real servers."""
