"""Weights in and out of other programs: one table of names, read forwards and backwards."""
