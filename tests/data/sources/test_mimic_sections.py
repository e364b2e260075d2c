"""Sections of reports written as MIMIC-CXR writes them: every line begins with a blank."""

import pytest

from pefomed_jax.data.sources.mimic_cxr import exceptions
from pefomed_jax.data.sources.mimic_cxr.sections import Sections, extract


def report(*lines: str) -> str:
    return "".join(f" {line}\n" for line in ("FINAL REPORT", *lines))


def test_a_usual_report() -> None:
    text = report(
        "EXAMINATION:  CHEST (PA AND LAT)",
        "",
        "INDICATION:  ___ year old woman with ?pleural effusion  // ?pleural effusion",
        "",
        "TECHNIQUE:  Chest PA and lateral",
        "",
        "COMPARISON:  ___",
        "",
        "FINDINGS: ",
        "",
        "Cardiac size cannot be evaluated.  Large left pleural effusion is new.",
        "The upper lungs are clear.",
        "",
        "Right lung is clear.",
        "",
        "IMPRESSION: ",
        "",
        "Large left pleural effusion",
    )
    assert extract(text) == Sections(
        findings="Cardiac size cannot be evaluated. Large left pleural effusion is new. "
        "The upper lungs are clear. Right lung is clear.",
        impression="Large left pleural effusion",
        indication="___ year old woman with ?pleural effusion // ?pleural effusion",
    )


@pytest.mark.parametrize(
    ("header", "section"),
    [
        ("CONCLUSION", "impression"),
        ("FINDINGS AND IMPRESSION", "impression"),
        ("FINDINGS/IMPRESSION", "impression"),
        ("IMPRESSOIN", "impression"),
        ("NDICATION", "impression"),
        ("PRELIMINARY FINDINGS", "findings"),
        ("CHEST, TWO VIEWS", "findings"),
        ("PA AND LATERAL VIEWS OF THE CHEST", "findings"),
        ("FRONTAL SEMI-UPRIGHT", "findings"),
        ("FINDNGS", "findings"),
    ],
)
def test_names_of_sections(header: str, section: str) -> None:
    parts = extract(report("COMPARISON:  None.", "", f"{header}:  All is clear."))
    expected = {"findings": "", "impression": "", section: "All is clear."}
    assert {name: getattr(parts, name) for name in expected} == expected
    assert parts.last_paragraph == ""


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("REASON FOR EXAM", "Cough."),
        ("CLINICAL INDICATION", "Cough."),
        ("CLINICAL HISTORY", "Cough."),
        ("PFI", "Cough."),
        ("TECHNIQUE", ""),
    ],
)
def test_why_it_was_made(header: str, why: str) -> None:
    assert extract(report(f"{header}:  Cough.", "", "FINDINGS:  Clear.")).indication == why


def test_the_reason_comes_before_the_history() -> None:
    text = report("INDICATION:  Cough.", "HISTORY:  Smoker.", "FINDINGS:  Clear.")
    assert extract(text).indication == "Cough."


def test_the_last_section_of_a_name_that_has_text() -> None:
    text = report("FINDINGS:  First.", "", "FINDINGS:  Second.", "", "CHEST PA:", "", "NOTE:  x")
    assert extract(text).findings == "Second."
    titled = report("CHEST, PA AND LATERAL:", "", "INDICATION:  Cough.", "", "IMPRESSION:  Clear.")
    assert extract(titled) == Sections(impression="Clear.", indication="Cough.")


def test_a_header_on_the_line_after_a_header_is_text() -> None:
    text = report("FINDINGS:", "NOTE: the lungs are clear.", "", "IMPRESSION:  Normal.")
    assert extract(text).findings == "NOTE: the lungs are clear."


def test_capitals_inside_a_line_begin_nothing() -> None:
    text = report("FINDINGS:  The tube is in place.  NOTE: it was moved.", "IMPRESSION:  Good.")
    assert extract(text).findings == "The tube is in place. NOTE: it was moved."


def test_without_either_the_last_paragraph() -> None:
    text = report("INDICATION:  Cough.", "", "Lungs are clear.", "", "No effusion.")
    assert extract(text) == Sections(
        last_paragraph="Lungs are clear. No effusion.", indication="Cough."
    )
    assert extract(" Lungs are clear.\n \n No effusion.\n").last_paragraph == "No effusion."
    assert extract(report("INDICATION:  Cough.")) == Sections(indication="Cough.")
    assert extract("") == Sections()


def test_small_letters_count_where_capitals_give_nothing() -> None:
    text = "Indication: cough\n\nFindings: Lungs are clear.\n\nImpression:\nNormal.\n"
    assert extract(text) == Sections("Lungs are clear.", "Normal.", "", "cough")
    both = report("FINDINGS:  As before.", "Impression: is of no header here.")
    assert extract(both).findings == "As before. Impression: is of no header here."
    assert extract(both).impression == ""


def test_sections_without_text_are_none() -> None:
    text = report("IMPRESSION: ", "PATIENT HISTORY:  Cough.", "", "Lungs are clear.")
    assert extract(text) == Sections(last_paragraph="Lungs are clear.", indication="Cough.")
    below = report("TECHNIQUE:", "FINDINGS:  Clear.", "", "IMPRESSION:")
    assert extract(below) == Sections(findings="Clear.")


def test_exceptions_are_told_by_hand() -> None:
    text = report("INDICATION:  Clear lungs.", "", "Dictated by ___.")
    assert extract(text, "57936451") == Sections(
        last_paragraph="Clear lungs.", indication="Clear lungs."
    )
    named = report("FINDINGS:  Other.", "RECOMMENDATION(S):  Clear lungs.")
    assert extract(named, "50913680").last_paragraph == "Clear lungs."
    assert extract(named, "50913680").findings == ""
    long = "x" * 59 + "Clear lungs." + "y" * 400
    assert extract(long, "56579911").last_paragraph == "Clear lungs." + "y" * 147
    assert extract(report("FINDINGS:  Clear."), "58235663") == Sections()


def test_the_exceptions_are_all_there() -> None:
    assert (len(exceptions.NAMES), len(exceptions.SPANS)) == (23, 31)
    assert not set(exceptions.NAMES) & set(exceptions.SPANS)
