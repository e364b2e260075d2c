"""The page of an audit in headless Chromium: at the width of a laptop and of a phone."""

import browsing
import pytest
from browsing import LAPTOP, PHONE

from pefomed_jax.audit import page


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = browsing.started(tmp_path_factory.mktemp("profile"))
    yield made
    made.quit()


@pytest.fixture(scope="module")
def file(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "audit.html"
    path.write_text(page.page(made), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE])
def test_fits_the_width(browser, file, size, scheme):
    shown = browsing.show(browser, file, size, scheme)
    width, inner = shown.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert inner == size[0]
    assert width <= inner
    red = shown.execute_script(
        "return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"
    )
    assert (int(red) < 100) == (scheme == "dark")
    out = shown.execute_script(
        "return [...document.querySelectorAll('main *, header *')]"
        ".filter(x => !x.closest('.box') && x.getBoundingClientRect().right > innerWidth + 1)"
        ".map(x => x.tagName + x.className)"
    )
    assert out == []
    assert browser.get_log("browser") == []  # nothing that the policy refused


@pytest.mark.parametrize("size", [LAPTOP, PHONE])
def test_figures_can_be_read(browser, file, size):
    shown = browsing.show(browser, file, size)
    heights = shown.execute_script(
        "return [...document.querySelectorAll('figure text')]"
        ".map(x => x.getBoundingClientRect().height)"
    )
    assert min(heights) > 11
    clipped = shown.execute_script(
        "return [...document.querySelectorAll('figure svg')].flatMap(svg => {"
        "const box = svg.getBoundingClientRect();"
        "return [...svg.querySelectorAll('text')].filter(x => {"
        "const b = x.getBoundingClientRect();"
        "return b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1"
        "}).map(x => x.textContent)})"
    )
    assert clipped == []


def test_every_image_is_shown(browser, file, made):
    shown = browsing.show(browser, file)
    images = shown.execute_script("return [...document.images].map(x => [x.alt, x.naturalWidth])")
    assert all(width > 0 for _, width in images)
    assert {"image images/copy.png", "image images/t1.png"} <= {alt for alt, _ in images}


def test_a_hostile_text_is_shown_as_text(browser, file):
    shown = browsing.show(browser, file)
    assert shown.execute_script("return document.scripts.length") == 0
    assert "<script>alert(1)</script>" in shown.find_element("id", "answers").get_attribute(
        "textContent"
    )


def test_the_whole_edge_of_a_bucket_is_in_the_histogram(browser, file, made):
    shown = browsing.show(browser, file)
    names = [x.text for x in shown.find_elements("css selector", ".edge-name")]
    assert names == [f"{bucket['tokens']:,}" for bucket in made.audit["lengths"]["buckets"]]
    bars = shown.find_elements("css selector", "#lengths .bar title")
    rows = [int(x.get_attribute("textContent").split(": ")[1].split()[0]) for x in bars[:]]
    assert sum(rows) == made.audit["lengths"]["rows_per_epoch"]
