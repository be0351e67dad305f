"""Tests with real sockets, files and processes."""
