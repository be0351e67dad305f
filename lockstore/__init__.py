"""Redlock over several independent Redis servers: order for buyers of the same seat."""
