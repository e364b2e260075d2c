"""Scores of reports by their words: tokenisers, BLEU, ROUGE-L, CIDEr and METEOR."""
