"""The page for everybody: both languages, light and dark, a phone's screen, and axe's rules of accessibility."""

from __future__ import annotations

import pytest

from tests.webpage.camera import read_sample
from tests.webpage.clips import upside_down, write_clip
from tests.webpage.conftest import watched

PHONE = {"width": 320, "height": 640}  # also what a desktop's window is at 400 %


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "es"])
def test_axe_finds_nothing(browser, demo, samples, language, scheme):
    """With an answer, a message, and everything unfolded."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: pip install '.[dev]'").Axe()
    with watched(browser, f"{demo.url}/?lang={language}", color_scheme=scheme, failing=True) as seen:
        seen.page.set_input_files("#file-input", samples / "hallo.json")
        seen.answers(1)
        seen.page.set_input_files("#file-input", {"name": "clip.xlsx", "mimeType": "", "buffer": b"PK"})
        seen.message("file_type_unknown")
        seen.page.eval_on_selector_all("details", "all => all.forEach(details => { details.open = true; })")
        seen.page.wait_for_timeout(300)  # colours may take a moment to change
        found = axe.run(seen.page).response["violations"]
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == []


def test_it_speaks_spanish(browser, demo, samples):
    with watched(browser, demo.url) as seen:
        english = seen.page.inner_text("body")
        assert seen.page.get_attribute("html", "lang") == "en"
        seen.page.click("#language-es")
        assert seen.page.get_attribute("html", "lang") == "es"
        assert seen.page.get_attribute("#language-es", "aria-pressed") == "true"
        assert seen.page.inner_text("#record-button") not in english
        seen.page.set_input_files("#file-input", {"name": "clip.xlsx", "mimeType": "", "buffer": b"PK"})
        text = seen.message("file_type_unknown").inner_text()
        seen.page.click("#language-en")
        assert seen.page.inner_text('#messages .message[data-code="file_type_unknown"]') != text


def test_a_spanish_browser_gets_spanish(browser, demo):
    with watched(browser, demo.url, locale="es-PE") as seen:
        assert seen.page.get_attribute("html", "lang") == "es"


@pytest.mark.parametrize("start", ["top", "bottom"])
def test_the_verdict_is_what_is_scrolled_to(browser, demo, samples, tmp_path, start):
    clip = write_clip(tmp_path / "turned.json", upside_down(read_sample(samples, "HALLO")))
    with watched(browser, demo.url, viewport=PHONE, is_mobile=True, has_touch=True) as seen:
        seen.state("model", "known")
        seen.page.evaluate(f"window.scrollTo(0, {0 if start == 'top' else 'document.body.scrollHeight'})")
        seen.page.set_input_files("#file-input", clip)
        seen.answers(1)
        top, bottom, height = seen.page.evaluate(
            "(({ top, bottom }) => [top, bottom, innerHeight])(verdict.getBoundingClientRect())"
        )
        assert 0 <= top < bottom <= height


@pytest.mark.parametrize("language", ["en", "es"])
def test_a_phones_screen_is_wide_enough(browser, demo, samples, language):
    with watched(browser, f"{demo.url}/?lang={language}", viewport=PHONE, is_mobile=True, has_touch=True) as seen:
        seen.page.set_input_files("#file-input", samples / "hallo.json")
        seen.answers(1)
        seen.page.eval_on_selector_all("details", "all => all.forEach(details => { details.open = true; })")
        wide = seen.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide[0] <= PHONE["width"] and wide[1] == PHONE["width"]
        # What a finger presses is at least 24 px high (WCAG 2.2, 2.5.8).
        heights = seen.page.eval_on_selector_all(
            "button", "all => all.filter(one => one.offsetParent).map(one => one.offsetHeight)"
        )
        assert heights and min(heights) >= 24
