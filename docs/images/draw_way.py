"""Draws docs/images/way.svg, the way of the data: python docs/images/draw_way.py"""

import pathlib

FROZEN, TRAINED, HOST, INK = "#dbe7f3", "#ffd9a8", "#eef0f2", "#22303c"
W, H, ROW = 176, 58, 92  # of a box; distance of rows


def box(x: int, y: int, title: str, text: str, color: str, width: int = W) -> str:
    middle = x + width / 2
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{H}" rx="8" fill="{color}" '
        f'stroke="{INK}" stroke-width="1.2"/>'
        f'<text x="{middle}" y="{y + 25}" class="t">{title}</text>'
        f'<text x="{middle}" y="{y + 43}" class="s">{text}</text>'
    )


def arrow(x1: int, y1: int, x2: int, y2: int) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="a" marker-end="url(#h)"/>'


def picture() -> str:
    x = [20 + i * 212 for i in range(4)]
    top, middle, low = 50, 50 + ROW, 50 + 2 * ROW
    parts = [
        box(x[0], top, "image", "any size, any mode", HOST),
        box(x[1], top, "vision tower", "ViT, frozen", FROZEN),
        box(x[2], top, "connector", "4 patches to 1 token", TRAINED),
        box(x[3], middle, "decoder", "LLaMA, frozen", FROZEN),
        box(x[3], top, "splice", "visual tokens in slots", HOST),
        box(x[0], middle, "prompt", "[INST] &lt;Img&gt; … [/INST]", HOST),
        box(x[1], middle, "tokens, branches", "n questions, one image", HOST, width=W + 212),
        box(x[3], low, "LoRA on q and v", "in every decoder layer", TRAINED),
        box(x[2], low, "answer", "loss at answer tokens only", HOST),
        box(x[1], low, "scores", "beside shuffled images", HOST),
        box(x[0], low, "run folder", "reports, curve, checkpoints", HOST),
    ]
    half = H // 2
    for i in range(3):
        parts.append(arrow(x[i] + W, top + half, x[i + 1] - 4, top + half))
    parts.append(arrow(x[0] + W, middle + half, x[1] - 4, middle + half))
    parts.append(arrow(x[2] + W, middle + half - 8, x[3] + 30, top + H + 4))
    parts.append(arrow(x[3] + W // 2, top + H, x[3] + W // 2, middle - 4))
    parts.append(arrow(x[3] + W // 2, low, x[3] + W // 2, middle + H + 4))
    parts.append(arrow(x[3] + 20, middle + H, x[2] + W - 20, low - 4))
    parts.append(arrow(x[2], low + half, x[1] + W + 4, low + half))
    parts.append(arrow(x[1], low + half, x[0] + W + 4, low + half))
    legend = "".join(
        f'<rect x="{20 + i * 150}" y="14" width="16" height="16" rx="3" fill="{color}" '
        f'stroke="{INK}"/><text x="{44 + i * 150}" y="27" class="l">{name}</text>'
        for i, (color, name) in enumerate(
            [(TRAINED, "trained"), (FROZEN, "frozen"), (HOST, "data")]
        )
    )
    style = (
        "text{font-family:Helvetica,Arial,sans-serif;fill:#22303c}"
        ".t{font-size:15px;font-weight:bold;text-anchor:middle}"
        ".s{font-size:12px;text-anchor:middle}.l{font-size:13px}"
        ".a{stroke:#22303c;stroke-width:1.6}"
    )
    head = (
        '<marker id="h" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 8 4 0 8z" fill="#22303c"/></marker>'
    )
    width, height = x[3] + W + 20, low + H + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}"><style>{style}</style><defs>{head}</defs>'
        f'<rect width="{width}" height="{height}" fill="white"/>{legend}{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    path = pathlib.Path(__file__).with_name("way.svg")
    path.write_text(picture().replace("><", ">\n<"), encoding="utf-8")
