"""The lock store's pure modules."""
