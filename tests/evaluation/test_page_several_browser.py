"""Cases of one, two, five images and of none in headless Chromium, on a laptop and on a phone."""

import browsing
import numpy as np
import pages
import pytest
from browsing import LAPTOP, PHONE
from PIL import Image

SIZES = [(300, 360), (360, 300), (300, 300), (900, 150), (120, 600)]  # of the images, pixels
COUNTS = (1, 2, 5, 0, 3, 2)  # images of the cases; of the last one of them is missing
CARDS = """return [...document.querySelectorAll('.case')].map(card => ({
    id: card.querySelector('h3').textContent,
    films: [...card.querySelectorAll('.films > *')].map(x => {
        const box = x.getBoundingClientRect(), own = card.getBoundingClientRect();
        return {alt: x.alt ?? x.textContent, left: box.left - own.left, top: box.top - own.top,
            right: box.right - own.left, bottom: box.bottom - own.top,
            width: box.width, height: box.height};
    }),
    boxes: card.querySelectorAll('.films').length,
    width: card.clientWidth, height: card.clientHeight,
    text: [...card.querySelectorAll('.text')].map(x => x.getBoundingClientRect().width),
    wide: card.scrollWidth > card.clientWidth,
    over: [...card.querySelectorAll('.no-film')].some(x => x.scrollWidth > x.clientWidth),
}))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = browsing.started(tmp_path_factory.mktemp("profile"))
    yield made
    made.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    for i, (width, height) in enumerate(SIZES):
        Image.fromarray(np.full((height, width), 90, np.uint8)).save(folder / f"{i}.png")
    rows = []
    for number, count in enumerate(COUNTS):
        row = pages.case(
            number, "a small effusion on the left " * 6, "no effusion on the left " * 6
        )
        names = [f"{i}.png" for i in range(count)]
        row |= {"image": names[0], "images": names} if names else {}
        if not names:
            del row["image"]
        rows.append(row)
    rows[-1]["images"] = ["0.png", "p1/s1/a_name_of_a_file_that_is_long_and_not_there.png"]
    text = pages.page_of(pages.evaluate(rows), folder)
    (folder / "report.html").write_text(text, encoding="utf-8")
    return folder / "report.html"


@pytest.mark.parametrize("size", [LAPTOP, PHONE])
def test_every_image_is_in_sight_and_large_enough(browser, file, size):
    page = browsing.show(browser, file, size)
    cards = sorted(page.execute_script(CARDS), key=lambda card: card["id"])
    assert [len(card["films"]) for card in cards] == list(COUNTS)
    assert [card["boxes"] for card in cards] == [int(bool(count)) for count in COUNTS]
    wide = page.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    for card in cards:
        assert not card["wide"]
        assert not card["over"]
        assert min(card["text"]) > 200
        for film in card["films"]:
            assert 0 <= film["left"] < film["right"] <= card["width"] + 1
            assert 0 <= film["top"] < film["bottom"] <= card["height"] + 1
            assert film["height"] >= 90
            assert max(film["width"], film["height"]) >= 96
    assert all(apart(card["films"]) for card in cards)
    assert max(card["height"] for card in cards) < (620 if size == LAPTOP else 1000)
    assert browser.get_log("browser") == []


def apart(films):
    """Whether no two of them lie on one another, and they stand in their order."""
    places = [(film["top"], film["left"]) for film in films]
    return places == sorted(places) and all(
        a["right"] <= b["left"] + 0.5 or a["bottom"] <= b["top"] + 0.5
        for i, a in enumerate(films)
        for b in films[i + 1 :]
    )


def test_each_is_named_by_its_place(browser, file):
    cards = {card["id"]: card for card in browsing.show(browser, file).execute_script(CARDS)}
    assert [film["alt"] for film in cards["c0"]["films"]] == ["image: 0.png"]
    assert [film["alt"] for film in cards["c1"]["films"]] == [
        *("image 1 of 2: 0.png", "image 2 of 2: 1.png")
    ]
    assert cards["c5"]["films"][1]["alt"].startswith("image 2 of 2 not found: p1/s1/a_name")
