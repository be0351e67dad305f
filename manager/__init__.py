"""Data store managers: which node may write for an operator, and the way there."""
