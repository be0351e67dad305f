"""Tests of the datastore package with real sockets, files and processes."""
