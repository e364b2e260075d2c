"""METEOR of nltk: another formula and other weights than METEOR 1.5, so it has another name.

It needs nltk's data set `wordnet`, which does not come with nltk.
"""

from collections.abc import Sequence

import numpy as np

from pefomed_jax.evaluation.measure import Measure, Skipped, mean
from pefomed_jax.evaluation.text.report import References, Words

NAME = "meteor_nltk"
MOST = 5_000  # words of a text; time grows with the product of two


def measure(hypotheses: Sequence[Words], references: Sequence[References]) -> Measure | Skipped:
    """meteor_nltk of the cases, the mean of each one's best reference, in 0..1."""
    from nltk.corpus import wordnet
    from nltk.translate import meteor_score

    try:
        wordnet.ensure_loaded()
    except Exception as error:  # nltk raises LookupError, OSError and errors of zip files
        if isinstance(error, LookupError):
            return Skipped(NAME, "needs nltk's wordnet: python -m nltk.downloader wordnet")
        return Skipped(NAME, f"nltk cannot read its wordnet: {str(error).strip().splitlines()[0]}")
    longest = max(len(text) for text in (*hypotheses, *(r for refs in references for r in refs)))
    if longest > MOST:
        return Skipped(NAME, f"a text has {longest:,} words; it takes too long above {MOST:,}")
    pairs = zip(hypotheses, references, strict=True)
    values = [
        meteor_score.meteor_score([list(ref) for ref in refs], list(words), wordnet=wordnet)
        for words, refs in pairs
    ]
    return mean({NAME: np.array(values, np.float64)})
