"""Prompts, quirks, and the official token ids piece by piece."""

import dataclasses
import json
import pathlib

import pytest
from ml_collections import ConfigDict

from pefomed_jax import config as config_lib
from pefomed_jax.batch import Case
from pefomed_jax.data import prompts, quirks
from pefomed_jax.data.encoding import Encoding
from pefomed_jax.errors import UserError

CASE = Case("c1", ("a.png",), "Is there a Mass (3.5 cm)?", "Yes: 3.5 cm.", "train")
SECOND = "Based on the image, respond to this question with a short answer: "


def make(task: str, data: dict | None = None, **switches: bool) -> prompts.Prompts:
    config = config_lib.make(task, "tiny")
    config.quirks.update(switches)
    config.data.update(data or {})
    return prompts.make(config)


def test_vqa_trains_on_two_templates_and_evaluates_on_the_second() -> None:
    p = make("vqa")
    seen = {p.train(CASE, epoch).after for epoch in range(20)}
    short, long = (f"</Img> [vqa] {t}{CASE.question} [/INST]" for t in ("", SECOND))
    assert seen == {short, long} == {t.after for t in p.train_variants(CASE)}
    assert p.evaluate(CASE) == prompts.Text("[INST] <Img>", long, CASE.answer)


def test_a_question_without_an_image_does_not_speak_of_one() -> None:
    text = make("vqa").evaluate(dataclasses.replace(CASE, images=()))
    question = f"[vqa] Answer this question: {CASE.question} [/INST]"
    assert (text.before, text.after, text.images) == ("[INST]", question, 0)


def test_every_further_image_has_marks_of_its_own() -> None:
    two = dataclasses.replace(CASE, images=("a.png", "b.png"))
    text = make("vqa").evaluate(two)
    assert (text.images, text.between) == (2, "</Img><Img>")
    shown = make("vqa", prompt_case=True).train(two, 0)
    assert (shown.before, shown.between) == ("[INST] <img>", "</img><img>")


def test_the_template_is_a_function_of_seed_epoch_and_case() -> None:
    def draws(p: prompts.Prompts) -> list[str]:
        cases = [dataclasses.replace(CASE, id=f"c{i}") for i in range(40)]
        return [p.train(case, epoch).after for epoch in (0, 1) for case in cases]

    first, again, other = make("vqa"), make("vqa"), make("vqa")
    other = dataclasses.replace(other, seed=7)
    assert draws(first) == draws(again) != draws(other)
    assert draws(first)[:40] != draws(first)[40:]


@pytest.mark.parametrize(("task", "tag"), [("caption", "caption"), ("mrg", "report")])
def test_reports_draw_an_instruction_and_evaluate_on_the_first(task: str, tag: str) -> None:
    p = make(task)
    case = dataclasses.replace(CASE, question="")
    lines = prompts.INSTRUCTIONS[tag]
    assert len(lines) >= 10
    assert p.evaluate(case).after == f"</Img> [{tag}] {lines[0]} [/INST]"
    seen = {p.train(case, epoch).after for epoch in range(300)}
    assert seen == {f"</Img> [{tag}] {line} [/INST]" for line in lines}


@pytest.mark.parametrize("task", ["caption", "mrg"])
def test_lists_keep_their_own_instructions_in_a_mixture(task: str) -> None:
    p = prompts.make(config_lib.make(task))
    kinds = {"mimiccxr": "report", "iuxray": "report", "caption": "caption"}
    for layout, kind in kinds.items():
        case = dataclasses.replace(CASE, fields={"layout": layout})
        own = prompts.INSTRUCTIONS[kind]
        assert any(line in p.train(case, 0).after for line in own)
        assert own[0] in p.evaluate(case).after
        assert len(p.train_variants(case)) == len(own)


def test_a_file_of_ones_own_replaces_the_instructions(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Describe it.\n\n  Say more.  \n")
    p = make("mrg", {"instructions": str(path)})
    assert p.instructions == ("Describe it.", "Say more.")
    path.write_text("Q: {question}\nNo slot\n")
    with pytest.raises(UserError, match=r"mine.txt, line 2: no {question}"):
        make("vqa", {"instructions": str(path)})
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no instruction"):
        make("mrg", {"instructions": str(path)})
    with pytest.raises(UserError, match="no file"):
        make("mrg", {"instructions": str(tmp_path / "none.txt")})
    path.write_bytes("Zeig das Röntgenbild.".encode("latin-1"))
    with pytest.raises(UserError, match=r"not UTF-8 at byte 10; save it as UTF-8$"):
        make("mrg", {"instructions": str(path)})
    with pytest.raises(UserError, match=r"data\.instructions: no file .*; give a text file"):
        make("mrg", {"instructions": str(tmp_path)})


def test_quirks_are_the_names_of_the_config() -> None:
    assert tuple(f.name for f in dataclasses.fields(quirks.Quirks)) == config_lib.QUIRKS
    switches = config_lib.make("vqa", "tiny").quirks
    assert not any(dataclasses.astuple(quirks.resolve(switches)))
    switches.strip_text = True
    assert quirks.resolve(switches) == quirks.Quirks(strip_text=True)
    switches.official = True
    assert all(dataclasses.astuple(quirks.resolve(switches)))


def test_strip_text_lowers_and_removes() -> None:
    assert quirks.strip_text('A "B" (3.5 cm): x;  y~\n') == "a b 3 5 cm x y"
    text = make("vqa", strip_text=True).evaluate(CASE)
    assert text.answer == "yes 3 5 cm"
    assert text.after.endswith("a short answer is there a mass 3 5 cm ? [/INST]")


def test_fifty_words_cut_prompts_and_targets() -> None:
    long = dataclasses.replace(CASE, question="q " * 80, answer="w " * 80)
    p = make("vqa", fifty_words=True)
    assert p.evaluate(long).answer.split() == ["w"] * 50
    assert len(p.evaluate(long).after.split()) == 50 + 2  # </Img> and [/INST]
    assert {len(t.after.split()) for t in p.train_variants(long)} == {49 + 2}
    assert len(make("vqa").evaluate(long).answer.split()) == 80


def test_prompt_case_lowers_the_image_marker_in_training_only() -> None:
    p = make("vqa", prompt_case=True)
    assert p.train(CASE, 0).before == "[INST] <img>"
    assert p.train(CASE, 0).after.startswith("</img> [vqa] ")
    assert p.evaluate(CASE).before == "[INST] <Img>"


@pytest.mark.parametrize(
    ("layout", "train", "evaluation"),
    [("iuxray", "report", "caption"), ("mimiccxr", "caption", "caption"), ("", "report", "report")],
)
def test_tag_mismatch(layout: str, train: str, evaluation: str) -> None:
    case = dataclasses.replace(CASE, fields={"layout": layout})
    p = make("mrg", tag_mismatch=True)
    assert f" [{train}] " in p.train(case, 0).after
    assert f" [{evaluation}] " in p.evaluate(case).after
    assert " [report] " in make("mrg").evaluate(case).after


def test_random_instruction_at_evaluation_of_reports() -> None:
    cases = [dataclasses.replace(CASE, id=f"c{i}") for i in range(200)]
    p = make("mrg", random_instruction=True)
    assert {p.evaluate(c).after for c in cases} == {t.after for t in p.train_variants(CASE)}
    v = make("vqa", random_instruction=True)
    assert v.evaluate(CASE) == make("vqa").evaluate(CASE)


@pytest.fixture(scope="module")
def llama(shared: pathlib.Path):
    """The Llama-2 tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(shared / "data" / "llama-tokenizer")


def official(config: ConfigDict) -> ConfigDict:
    config.quirks.official = True
    return config


def test_official_ids_piece_by_piece(shared: pathlib.Path, config: ConfigDict, llama) -> None:
    """Every id of the twelve official training rows, and their text."""
    path = shared / "data" / "llama-tokenizer" / "expected_pieces.json"
    encoding = Encoding.of(llama, official(config))
    for number, expected in enumerate(json.loads(path.read_text())):
        case = Case(str(number), ("",), expected["question"], expected["answer"], "train")
        text = max(encoding.prompts.train_variants(case), key=lambda t: len(t.after))
        assert f"{text.before}<imagehere>{text.after}" == expected["prompt_text"]
        epoch = next(e for e in range(99) if encoding.prompts.train(case, e) == text)
        row = encoding.train_rows([[case]], [epoch])[0]
        slots = row.image_slot >= 0
        before = row.tokens[: slots.argmax()].tolist()
        after_and_target = row.tokens[slots.argmax() + slots.sum() :].tolist()
        assert before == expected["before_image"]
        assert after_and_target == expected["after_image"] + expected["target"]
        assert row.targets.tolist() == expected["target"]


def test_official_evaluation_has_two_bos(config: ConfigDict, llama) -> None:
    encoding = Encoding.of(llama, official(config))
    row = encoding.prompt_rows([CASE])[0]
    assert row.tokens[:9].tolist() == [
        1,
        1,
        518,
        25580,
        29962,
        529,
        25518,
        29958,
        encoding.encoder.pad,
    ]
    plain = dataclasses.replace(
        encoding, encoder=dataclasses.replace(encoding.encoder, double_bos=False)
    )
    assert plain.prompt_rows([CASE])[0].tokens.tolist() == row.tokens[1:].tolist()
