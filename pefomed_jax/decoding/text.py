"""From generated tokens to an answer."""

from typing import Any

import numpy as np
from jaxtyping import Int


def to_text(tokenizer: Any, tokens: Int[np.ndarray, " length"]) -> str:
    """The answer in tokens that end before the end symbol: what a person reads, stripped.

    As in PeFoMed: special tokens are skipped, also where the model spells one in letters, and only
    what follows the last `[/INST]` counts. `tokenizer` is one of Hugging Face.
    """
    text = tokenizer.decode(tokens.tolist(), skip_special_tokens=True)
    text = text.split("</s>")[0].replace("<s>", "")
    return text.split("[/INST]")[-1].strip()
