"""The page's languages, color schemes, accessibility (rules of axe), and layout on a phone."""

from __future__ import annotations

import pytest

from tests.webpage.camera import read_sample
from tests.webpage.clips import upside_down, write_clip
from tests.webpage.conftest import open_tab

PHONE = {"width": 320, "height": 640}  # the size of a desktop window at 400 % zoom, too


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "es"])
def test_axe_finds_no_violations(browser, demo, samples, language, scheme):
    """The page shows an answer and a message, and all details are open."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: pip install '.[dev]'").Axe()
    with open_tab(browser, f"{demo.url}/?lang={language}", color_scheme=scheme, failing=True) as tab:
        tab.page.set_input_files("#file-input", samples / "hallo.json")
        tab.answers(1)
        tab.page.set_input_files("#file-input", {"name": "clip.xlsx", "mimeType": "", "buffer": b"PK"})
        tab.message("file_type_unknown")
        tab.page.eval_on_selector_all("details", "all => all.forEach(details => { details.open = true; })")
        tab.page.wait_for_timeout(300)  # until transitions of colors have ended
        violations = axe.run(tab.page).response["violations"]
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in violations] == []


def test_the_language_button_switches_to_spanish(browser, demo, samples):
    with open_tab(browser, demo.url) as tab:
        english = tab.page.inner_text("body")
        assert tab.page.get_attribute("html", "lang") == "en"
        tab.page.click("#language-es")
        assert tab.page.get_attribute("html", "lang") == "es"
        assert tab.page.get_attribute("#language-es", "aria-pressed") == "true"
        assert tab.page.inner_text("#record-button") not in english
        tab.page.set_input_files("#file-input", {"name": "clip.xlsx", "mimeType": "", "buffer": b"PK"})
        text = tab.message("file_type_unknown").inner_text()
        tab.page.click("#language-en")
        assert tab.page.inner_text('#messages .message[data-code="file_type_unknown"]') != text


def test_a_spanish_browser_gets_the_page_in_spanish(browser, demo):
    with open_tab(browser, demo.url, locale="es-PE") as tab:
        assert tab.page.get_attribute("html", "lang") == "es"


@pytest.mark.parametrize("start", ["top", "bottom"])
def test_the_page_scrolls_to_the_verdict(browser, demo, samples, tmp_path, start):
    clip = write_clip(tmp_path / "flipped.json", upside_down(read_sample(samples, "HALLO")))
    with open_tab(browser, demo.url, viewport=PHONE, is_mobile=True, has_touch=True) as tab:
        tab.state("model", "known")
        tab.page.evaluate(f"window.scrollTo(0, {0 if start == 'top' else 'document.body.scrollHeight'})")
        tab.page.set_input_files("#file-input", clip)
        tab.answers(1)
        top, bottom, height = tab.page.evaluate(
            "(({ top, bottom }) => [top, bottom, innerHeight])(verdict.getBoundingClientRect())"
        )
        assert 0 <= top < bottom <= height


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_page_fits_a_phones_width(browser, demo, samples, language):
    with open_tab(browser, f"{demo.url}/?lang={language}", viewport=PHONE, is_mobile=True, has_touch=True) as tab:
        tab.page.set_input_files("#file-input", samples / "hallo.json")
        tab.answers(1)
        tab.page.eval_on_selector_all("details", "all => all.forEach(details => { details.open = true; })")
        content, window = tab.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert content <= PHONE["width"] and window == PHONE["width"]
        # Buttons are at least 24 px high (WCAG 2.2, 2.5.8).
        heights = tab.page.eval_on_selector_all(
            "button", "all => all.filter(button => button.offsetParent).map(button => button.offsetHeight)"
        )
        assert heights and min(heights) >= 24
