"""Measurements that are run by hand; their tables are in docs. Figures compare A with B in one run."""
