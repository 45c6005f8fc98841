"""Reads pickles without executing them: a virtual machine with an allow-list."""
