"""Every fault of docs/errors.md, by the command that meets it."""

import pytest

from tests.faults import cases_corpora, cases_disks, cases_labelled, cases_saved  # noqa: F401
from tests.faults.stage import CASES, HEAD, PAGE, WRITE, Case, Stage, check_section, page, sections

ALL = [one for _, cases in CASES for one in cases]


@pytest.mark.parametrize("found", ALL, ids=lambda found: found.name)
def test_fault(found: Case, stage: Stage) -> None:
    found.run(stage)
    check_section(found, stage)


@pytest.mark.skipif(WRITE, reason="the page is being written")
def test_the_page_holds_the_cases_and_nothing_else() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(HEAD)
    assert text == page(sections(text))
    assert list(sections(text)) == [one.title for one in ALL]
