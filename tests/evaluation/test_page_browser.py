"""The page in headless Chromium: at the width of a laptop and of a phone, and used."""

import json
import re
import time

import browsing
import pages
import pytest
from browsing import LAPTOP, PHONE


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = browsing.started(tmp_path_factory.mktemp("profile"))
    yield made
    made.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    rows = pages.vqa_cases()
    others = [{**row, "prediction": "no", "image": "2.png"} for row in rows]
    text = pages.page_of(pages.compared(rows, others), pages.write_films(folder))
    (folder / "report.html").write_text(text, encoding="utf-8")
    return folder / "report.html"


@pytest.fixture
def opened(browser, file):
    """Opens the page; `opened(...)` again in another size or scheme."""

    def at(size=LAPTOP, path=file, scheme="light"):
        return browsing.show(browser, path, size, scheme)

    yield at
    assert browser.get_log("browser") == []


def ids(browser):
    return browser.execute_script(
        "return [...document.querySelectorAll('.case h3')].map(x => x.textContent)"
    )


def said(browser):
    return browser.execute_script("return document.getElementById('shown').textContent")


def choose(browser, name, text):
    """Chooses the option that begins with `text`."""
    done = browser.execute_script(
        """const box = document.getElementById(arguments[0]);
        const option = [...box.options].find(x => x.text.startsWith(arguments[1]));
        if (!option) return false;
        box.value = option.value;
        box.dispatchEvent(new Event('change', {bubbles: true}));
        return true""",
        *(name, text),
    )
    assert done, (name, text)


def search(browser, text, wait=5.0):
    """Types into the search field and waits for the list to follow."""
    before, box = said(browser), browser.find_element("id", "search")
    box.clear()
    box.send_keys(text)
    end = time.monotonic() + wait
    while said(browser) == before and time.monotonic() < end:
        time.sleep(0.02)
    assert said(browser) != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE])
def test_fits_the_width(opened, size, scheme):
    page = opened(size, scheme=scheme)
    width, inner = page.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert inner == size[0]
    assert width <= inner
    red = page.execute_script(
        "return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"
    )
    assert (int(red) < 100) == (scheme == "dark")
    small = page.execute_script(
        "return [...document.querySelectorAll('.case, figure, select, input[type=search]')]"
        ".filter(x => x.getBoundingClientRect().right > innerWidth).length"
    )
    assert small == 0


@pytest.mark.parametrize("size", [LAPTOP, PHONE])
def test_every_score_is_in_sight(opened, size):
    page = opened(size)
    hidden = page.execute_script(
        "const cells = document.querySelectorAll(':is(#scores, #comparison) :is(th, td, small)');"
        "const out = x => x.getBoundingClientRect().right > innerWidth;"
        "const wide = x => x.scrollWidth > x.clientWidth + 1;"
        "return [...cells].filter(x => out(x) || wide(x)).map(x => x.textContent)"
    )
    assert hidden == []
    heads, first = page.execute_script(
        "return ['thead th', 'tbody tr:first-child > *'].map(x => "
        "[...document.querySelectorAll('#scores ' + x)].map(x => [x.textContent, x.offsetLeft]))"
    )
    assert [text for text, _ in heads[1:3]] == ["test95 %", "images shuffled95 %"]
    assert [left for _, left in heads] == [left for _, left in first]
    assert first[2][0] == "0.0000.000 to 0.000"


def test_the_worst_come_first(opened):
    page = opened()
    cases = pages.evaluate(pages.vqa_cases()).cases
    order = sorted(cases, key=lambda case: (case["exact_match"], case["token_f1"]))
    assert ids(page) == [case["id"] for case in order[:50]]
    assert said(page) == "cases 1 to 50 of 120"
    choose(page, "order", "best")
    right = [case["id"] for case in cases if case["match"]]
    assert ids(page) == right[:50]
    choose(page, "sort", "id")
    assert ids(page)[:3] == ["c0", "c1", "c2"]
    choose(page, "sort", "words")
    assert ids(page)[:2] == ["c1", "c2"]
    choose(page, "sort", "open_recall")
    assert ids(page)[-1] != "c0"
    page.find_elements("css selector", ".turn button")[1].click()
    assert said(page) == "cases 51 to 100 of 120"
    assert len(set(ids(page))) == 50


def test_filters_and_search(opened):
    page = opened()
    cases = pages.evaluate(pages.vqa_cases()).cases
    wrong = {case["id"] for case in cases if not case["match"]}
    choose(page, "match", "no match")
    assert said(page) == f"cases 1 to {len(wrong)} of {len(wrong)} that fit, of 120"
    assert set(ids(page)) == wrong
    choose(page, "filter-0", "OPEN")
    kept = {case["id"] for case in cases if case["id"] in wrong and case["answer_type"] == "OPEN"}
    assert set(ids(page)) == kept
    search(page, "QUESTION 19?")
    assert set(ids(page)) == {"c19", "c119"}
    search(page, "nowhere to be found")
    assert page.find_element("id", "list").text == "No case fits."
    page.find_element("css selector", "button[type=reset]").click()
    page.execute_async_script("setTimeout(arguments[0], 50)")
    assert said(page) == "cases 1 to 50 of 120"
    choose(page, "match", "empty")
    assert ids(page) == ["c3"]
    assert "(empty)" in page.find_element("css selector", ".answer").text


def test_a_hostile_text_is_shown_as_text(opened):
    page = opened()
    search(page, "onerror")
    answers = [x.text for x in page.find_elements("css selector", ".answer")]
    assert pages.HOSTILE in answers
    images = page.execute_script("return [...document.images].map(x => [x.src, x.naturalWidth])")
    assert images
    assert all(src.startswith("data:image/jpeg") and width == 224 for src, width in images)
    assert page.execute_script("return document.scripts.length") == 3
    assert pages.HOSTILE in page.find_element("css selector", "#groups").text


def test_words_that_differ_are_marked(opened):
    page = opened()
    search(page, "c2 and")
    assert [x.text for x in page.find_elements("css selector", ".answer mark")] == ["and no"]
    page.execute_script("document.getElementById('marks').click()")
    assert page.find_elements("css selector", ".case mark") == []


def test_the_focus_can_be_seen(opened):
    page = opened()
    page.find_element("css selector", "body").send_keys("\ue004")  # tab
    style = page.execute_script(
        "const x = document.activeElement; return [x.className, getComputedStyle(x).outlineStyle]"
    )
    assert style == ["skip", "solid"]


def many_cases(text, n):
    """The page with its cases again and again, c0 to c<n-1>: quicker than to write them."""
    head, data, tail = re.split(r'(?<=id="data">)(.*?)(?=</script>)', text, maxsplit=1)
    held = json.loads(data)
    rows = [[f"c{i}", *held["cases"][i % len(held["cases"])][1:]] for i in range(n)]
    data = json.dumps(held | {"cases": rows}).replace("<", "\\u003c")
    return head + data + tail


def test_twenty_thousand_cases(opened, file, tmp_path):
    path = tmp_path / "many.html"
    path.write_text(many_cases(file.read_text(encoding="utf-8"), 20_000), encoding="utf-8")
    start = time.monotonic()
    page = opened(path=path)
    assert said(page) == "cases 1 to 50 of 20,000"
    search(page, "c19999")
    assert ids(page) == ["c19999"]
    assert time.monotonic() - start < 8
