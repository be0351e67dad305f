"""Bytes from outside, valid ones changed at random: a named error each time, and nothing worse."""
