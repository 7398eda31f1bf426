"""Researchers: the protocol, the registry, and one module or folder per kind of researcher."""
