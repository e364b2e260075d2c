"""What is in a data set before a run is started on it: counts, lengths, images, leakage, bad rows.

gather     the cases of the run, every bad row, the facts of every image
counts     splits, sources, types; answers: majorities; lengths: tokens, buckets, steps; pictures
near       looks few bits apart; alike: the same picture, by its pixels; twins: both together
leakage    what two splits share; rows: what a split holds twice, or answers in two ways
warn       what of it matters, in plain words
table      for the terminal; page/: audit.html; command: launch/data.py
"""
