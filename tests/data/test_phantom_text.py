"""What is written about a scene says just what was drawn, and the rules read it back."""

import collections

import pytest

from pefomed_jax.data.sources.phantom import questions, rules, scene, text

SEEDS = range(1200)


def test_every_report_and_caption_is_read_back_as_exactly_its_findings():
    for seed in SEEDS:
        content = scene.sample(seed)
        for written in (text.report(content), text.caption(content)):
            parsed = rules.parse(written)
            assert parsed.findings == set(content.findings), written
            assert parsed.unparsed == (), written


def test_text_is_a_pure_function_of_the_seed_in_several_wordings():
    content = scene.sample(17)
    assert text.report(content) == text.report(scene.sample(17))
    normal = {text.report(scene.Scene(seed, False, None, None, False)) for seed in range(50)}
    assert len(normal) > 20


def test_sizes_and_zones_are_named():
    content = scene.Scene(
        1,
        False,
        scene.Lesion("effusion", size="large"),
        scene.Lesion("nodule", zone="upper"),
        False,
    )
    for part in text.report(content).lower().split("impression:"):
        assert "large" in part
        assert "upper" in part
        assert "small" not in part


@pytest.mark.parametrize(
    ("sentence", "findings"),
    [
        ("No left pleural effusion or right pneumothorax.", set()),
        ("The heart is not enlarged.", set()),
        ("A left nodule is not seen.", set()),
        ("Right effusion has resolved.", set()),
        ("Left effusion without pneumothorax.", {"left effusion"}),
        ("No nodule, but a small left effusion.", {"left effusion"}),
        (
            "Bilateral effusions and cardiomegaly.",
            {"left effusion", "right effusion", "enlarged heart"},
        ),
        ("Left and right effusions.", {"left effusion", "right effusion"}),
        ("Right nodule and left effusion.", {"right nodule", "left effusion"}),
        ("A central venous catheter is seen.", {"line"}),
        ("FINDINGS: Clear lungs. IMPRESSION: Left nodule.", set()),
        ("", set()),
    ],
)
def test_rules_mind_denials_sides_and_the_findings_part(sentence, findings):
    parsed = rules.parse(sentence)
    assert parsed.findings == findings
    assert parsed.findings == rules.findings_in(sentence)
    assert parsed.unparsed == ()


@pytest.mark.parametrize(
    "sentence", ["There is an effusion", "Bananas are yellow", "nodule nodule"]
)
def test_sentences_that_cannot_be_read_are_counted(sentence):
    parsed = rules.parse(f"The heart is enlarged. {sentence}.")
    assert parsed.unparsed == (sentence,)
    assert parsed.findings == {"enlarged heart"}


def test_answers_agree_with_the_findings():
    for seed in SEEDS:
        content = scene.sample(seed)
        lesions = {side: lesion for side, lesion in content.lungs if lesion}
        for q in questions.ask(content):
            assert q.answer == _answer(q, content, lesions), (q, content)


def _answer(q: questions.Question, content: scene.Scene, lesions: dict) -> str:
    """Worked out from the words of the question alone."""
    asked = q.question.lower()
    of_kind = {s: x for s, x in lesions.items() if x.kind in asked}
    if q.question_type == "presence":
        assert q.answer_type == "CLOSED"
        if "heart" in asked or "cardiomegaly" in asked:
            return "yes" if content.enlarged_heart else "no"
        if "line" in asked:
            return "yes" if content.line else "no"
        return "yes" if of_kind else "no"
    assert q.answer_type == "OPEN"
    if q.question_type == "finding":
        side = "left" if "left" in asked else "right"
        return lesions[side].kind if side in lesions else questions.NOTHING
    (side, lesion) = next(iter(of_kind.items()))
    assert len(of_kind) == 1
    return {"side": side, "size": lesion.size, "zone": lesion.zone}[q.question_type]


def test_no_answer_can_be_guessed_from_the_question():
    answers = collections.defaultdict(collections.Counter)
    for seed in range(4000):
        for q in questions.ask(scene.sample(seed)):
            answers[q.question][q.answer] += 1
    assert len(answers) == 32
    for question, counts in answers.items():
        fair = 1 / len(counts)
        assert len(counts) >= 2, question
        assert max(counts.values()) / counts.total() < fair + 0.1, (question, counts)


def test_prevalence_is_the_share_of_scenes():
    scenes = [scene.sample(seed) for seed in range(4000)]
    for name in questions.PRESENCE:
        share = sum(any(name in found for found in s.findings) for s in scenes) / len(scenes)
        assert abs(share - questions.prevalence(name)) < 0.03, name
