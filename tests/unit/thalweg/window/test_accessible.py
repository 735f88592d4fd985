"""Every page by axe-core's rules, in light and dark; and what forced colours must not take away.

axe-core is nobody's dependency here: its one file is looked for in the cache, and where it is not, this says how to
fetch it and skips.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ledger_rows import submitted
from tests.patience import PATIENCE_S
from tests.unit.cli.test_opportunities import EAST, NEEDS, WEST, runs, world
from tests.unit.thalweg.window.conftest import SECRETS, OpenWindow, Serving
from thalweg.conf.environment import cache_folder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = cache_folder() / "axe-core" / "axe.min.js"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(
        not AXE.is_file(), reason=f"no axe-core here: npm pack axe-core, and put its axe.min.js at {AXE}"
    ),
]
PAGES = (
    "overview",
    "tasks",
    "tasks?group=tenant",
    "tasks?name=nobody",
    "tasks/a",
    "tasks/w",
    "regions",
    f"regions?region={EAST}",
    "plans",
)
MORE_PAGES = ("tenants", "sync", "quality", "money?by=region", "audit", "what-if")
DIALOGS = {
    "regions": "button[aria-label='Drain east']",
    "tenants": "button[aria-label='Limits of default']",
    "tasks/a": ".acts button",
    "audit": "#key",
}
HOSTILE = "<img src=x onerror=alert(1)>"
FOUND = """() => axe.run(document, {resultTypes: ["violations"]}).then(found => JSON.stringify(found.violations.map(
    one => [one.id, one.help, one.nodes.slice(0, 3).map(node => node.html.slice(0, 200))])))"""


@pytest.fixture(scope="module")
def opened(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> OpenWindow:
    waits = [submitted("w", **NEEDS, allowed_regions=["nowhere"]), submitted(HOSTILE, **NEEDS, tenant=HOSTILE)]
    folder = world(tmp_path_factory.mktemp("axe"), runs("a", EAST, 0), runs("b", WEST, 0), waits)
    return serving(str(folder))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def shown(browser: Any, opened: OpenWindow, **how: Any) -> Iterator[tuple[str, Any]]:
    """Show one page after the other to an operator; axe is put in past the page's own policy, which forbids it."""
    context = browser.new_context(viewport={"width": 1_280, "height": 900}, bypass_csp=True, **how)
    context.set_default_timeout(PATIENCE_S * 1_000)
    tab = context.new_page()
    tab.goto(opened.url)
    tab.evaluate("secret => sessionStorage.setItem('thalweg-key', secret)", SECRETS["all"])
    tab.reload()
    tab.add_script_tag(content=Path(AXE).read_text(encoding="utf-8"))
    for name in (*PAGES, *MORE_PAGES):
        tab.goto(f"{opened.url}/#/{name}")
        tab.wait_for_selector(".body > :not(.faint), .view .row")
        tab.wait_for_function("!document.querySelector('.body > .faint')?.textContent.startsWith('Loading')")
        yield name, tab
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong_on_any_page(browser: Any, opened: OpenWindow, scheme: str) -> None:
    wrong: dict[str, Any] = {}
    for name, tab in shown(browser, opened, color_scheme=scheme):
        wrong |= {name: found} if (found := json.loads(tab.evaluate(FOUND))) else {}
        if name in DIALOGS:
            tab.click(DIALOGS[name])
            tab.wait_for_selector("dialog[open] button")
            wrong |= {f"dialog of {name}": found} if (found := json.loads(tab.evaluate(FOUND))) else {}
            tab.keyboard.press("Escape")
    assert wrong == {}


def test_forced_colours_keep_every_control_and_state_visible(browser: Any, opened: OpenWindow) -> None:
    for name, tab in shown(browser, opened, forced_colors="active"):
        if name in ("overview", "regions", "tenants"):
            assert tab.evaluate("matchMedia('(forced-colors: active)').matches")
            chosen = tab.evaluate("getComputedStyle(document.querySelector('nav a[aria-current]')).outlineStyle")
            assert chosen == "solid", f"{name}: a background alone is not seen"
            flat = (
                "[...document.querySelectorAll('button')].filter(one => getComputedStyle(one).borderStyle === 'none')"
            )
            assert tab.evaluate(f"{flat}.length") == 0, name
