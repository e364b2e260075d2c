"""Made-up reports with odd characters, and answers like them: the same for the same seed."""

import random

_SENTENCES = (
    "The heart is {a} in size.",
    "There is a {n} {u} nodule in the {s} lobe{m}",
    "No {f} or {f}",
    "Dr. {w}'s patient doesn't have {f}; see fig. {n} and No. {n}.",
    "{s}-sided {f}, unchanged since 10/{d}/2019...",
    "IMPRESSION: {d}. {f} {d}. {f}{m}",
    "T{d}-L{d} disc space narrowing & L4/L5 @ {n} p.m.",
    "It’s “{a}” – {n}×{n} {u}² at 37°C",
    "(s/p {f}) [{d}] {{y}} <{n} {u}> +/- ~{n}%",
    "Ratio 1 1/2 or ½, tel. (555) 123-4567, http://a.b/c?d={d}",
    "The type {w}. The {w}. lobe\n\n{a}\tend",
    "{f}?! can't cannot won’t :) … e.g. {a}, i.e. {a}.,",
    "µg naïve 😀 中文 β-blocker {f}/{f}-{a} a_b {w}_{d} #{d} $5 €5",
    "",
    "XXXX ___ year-old M.D. vs. U.S. et al. {n}cm x{n}cm.{s}",
)
_WORDS = {
    "a": ("normal", "enlarged", "stable", "well-defined", "Unremarkable", "small"),
    "n": ("1.2", "3", "12", ".5", "1,000", "3.5x4.0", "-5"),
    "u": ("cm", "mm", "ml", "CM"),
    "s": ("left", "right", "right upper", "Left"),
    "m": (".", "", ";", " -- stable.", "..."),
    "f": ("effusion", "pneumothorax", "consolidation", "PICC line", "edema's"),
    "w": ("B", "Lee", "x", "C"),
    "d": ("1", "2", "12", "7"),
}


def text(rng: random.Random) -> str:
    """One to four sentences."""
    made = []
    for _ in range(rng.randint(1, 4)):
        sentence = rng.choice(_SENTENCES)
        while "{" in sentence.replace("{{", ""):
            start = next(
                i
                for i, sign in enumerate(sentence)
                if sign == "{" and sentence[i + 2 : i + 3] == "}" and sentence[i + 1] in _WORDS
            )
            word = rng.choice(_WORDS[sentence[start + 1]])
            sentence = sentence[:start] + word + sentence[start + 3 :]
        made.append(sentence.replace("{{", "{").replace("}}", "}"))
    return rng.choice((" ", " ", "  ", "")).join(made)


def pairs(n: int, seed: int) -> list[tuple[str, list[str]]]:
    """(answer, one to three references); some answers are empty, or of another case."""
    rng = random.Random(seed)
    made = []
    for _ in range(n):
        refs = [text(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        kept = [word for word in refs[0].split(" ") if rng.random() < 0.8]
        made.append((rng.choice((" ".join(kept),) * 6 + (text(rng), "")), refs))
    return made
