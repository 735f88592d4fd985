"""The page in a real Chromium: what a person sees, does by the keyboard alone, and is told when something changes."""

import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.ledger_rows import happened, submitted
from tests.ledger_rows import ledger as ledger_rows
from tests.patience import PATIENCE_S
from tests.unit.cli.test_opportunities import EAST, NEEDS, runs, world
from tests.unit.thalweg.window.conftest import SECRETS, OpenWindow, Serving
from tests.unit.thalweg.window.histories import random_batches, write_ledger, write_tables

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
PATIENCE_MS = PATIENCE_S * 1_000


def until(page: Any, condition: str) -> None:
    """Wait for a condition; Playwright's own way would need a page that may evaluate text."""
    deadline = time.monotonic() + PATIENCE_S
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def until_there_are(number: int, held: Sequence[Any], page: Any) -> None:
    """Wait for requests that a route holds back."""
    deadline = time.monotonic() + PATIENCE_S
    while len(held) < number:
        assert time.monotonic() < deadline, held
        page.wait_for_timeout(20)


@pytest.fixture(scope="module")
def opened(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> OpenWindow:
    folder = str(tmp_path_factory.mktemp("warehouse"))
    batches = random_batches(21, 8, 300)
    write_ledger(folder, batches)
    write_tables(folder, batches[:-1])
    return serving(folder, batches)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any, opened: OpenWindow) -> Iterator[Any]:
    """A tab that fails the test where the page says an error or asks anybody else."""
    context = browser.new_context(viewport={"width": 1_280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    tab = context.new_page()
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    meant = "401 (Unauthorized)"  # a browser calls every refused request an error
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" and meant not in said.text else None)
    tab.on("request", lambda asked: None if asked.url.startswith((opened.url, "data:")) else wrong.append(asked.url))
    tab.goto(opened.url)
    tab.wait_for_selector(".figure")
    yield tab
    context.close()
    assert wrong == []


def test_every_page_is_drawn_without_an_error_at_any_width(page: Any) -> None:
    for name in ("tasks", "regions", "plans", "tenants", "sync", "quality", "money", "audit", "what-if", "overview"):
        page.set_viewport_size({"width": 1_280, "height": 800})
        page.click(f"nav a[data-page={name}]")
        until(page, f"document.querySelector('h1').innerText.toLowerCase().replace(' ', '-') === '{name}'")
        until(page, "!document.querySelector('.body > .faint')?.textContent.startsWith('Loading')")
        assert page.query_selector(".trouble") is None
        for width in (360, 3_840):
            page.set_viewport_size({"width": width, "height": 800})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{name} at {width} is {wide} wide"


def test_a_person_without_a_mouse_finds_and_opens_a_task(page: Any) -> None:
    page.keyboard.press("g")
    page.keyboard.press("2")
    page.wait_for_selector(".view .row .id a")
    page.focus(".view")
    for key in ("ArrowDown", "ArrowDown", "End", "Home", "ArrowDown"):
        page.keyboard.press(key)
    page.wait_for_selector("#row-1[aria-selected=true] .id a")
    task_id = page.inner_text("#row-1 .id")
    page.keyboard.press("Enter")
    page.wait_for_selector(".steps li")
    assert page.inner_text("h1") == task_id
    page.keyboard.press("/")
    page.keyboard.type("sweep*")
    page.keyboard.press("Enter")
    until(page, "location.hash === '#/tasks?name=sweep*' && document.querySelector('.view .row .id a')")
    assert all(
        text.startswith("sweep") for text in page.eval_on_selector_all(".view .id a", "a => a.map(x => x.textContent)")
    )


def test_a_filter_and_a_group_say_how_many_there_are(page: Any, opened: OpenWindow) -> None:
    page.click("nav a[data-page=tasks]")
    page.click(".chip:has-text('waiting')")
    waiting = opened.get("/v1/tasks?state=waiting&limit=0")["matching"]
    until(page, f"document.querySelector('.chips .faint').textContent === '{waiting} tasks'")
    page.select_option("select[name=group]", "tenant")
    page.wait_for_selector(".result table")
    assert page.locator(".result tbody tr").count() == 3


def test_a_change_is_seen_without_being_asked_for(page: Any, opened: OpenWindow) -> None:
    running = opened.get("/v1/tasks?state=running&limit=1&sort=task")["tasks"][0]
    page.goto(f"{opened.url}/#/tasks/{running['task_id']}")
    page.wait_for_selector(".standing .state[data-state=running]")
    ends = happened(running["task_id"], "cancelled", running["epoch"])
    write_ledger(opened.folder, [ledger_rows(ends, batch_id=100)])
    page.wait_for_selector(".standing .state[data-state=cancelled]")
    page.wait_for_selector(".steps .state[data-state=cancelled]")


def test_a_task_that_is_not_there_yet_is_shown_when_it_comes(hand: Any, acted_on: OpenWindow) -> None:
    hand.evaluate("location.hash = '#/tasks/comes-later'")
    hand.wait_for_selector(".trouble:has-text(\"there is no task 'comes-later'\")")
    write_ledger(acted_on.folder, [ledger_rows(submitted("comes-later"), batch_id=900)])
    hand.wait_for_selector(".standing .state[data-state=waiting]")
    assert hand.query_selector(".trouble") is None


def test_an_explanation_of_before_a_move_is_not_shown(hand: Any) -> None:
    hand.evaluate("location.hash = '#/tasks/a'")
    hand.wait_for_selector("section[aria-label='Why east']")
    before = []

    def answer(route: Any) -> None:
        before.append(route.fetch().json() | {"placed": [{"copy": 0, "region": "west", "pool_id": "west/A100"}]})
        route.fulfill(json=before[-1])

    hand.route("**/v1/tasks/a/explanation", answer)
    hand.reload()
    hand.wait_for_selector("section:has-text('The tables follow within seconds.')")
    assert hand.query_selector("section[aria-label='Why west']") is None


def test_a_tab_that_nobody_sees_holds_no_connection_and_goes_on_where_it_was(page: Any, opened: OpenWindow) -> None:
    def looked_at(seen: bool) -> None:
        """Be what a browser is when somebody goes to another tab, or comes back."""
        page.evaluate(
            "seen => { Object.defineProperty(document, 'hidden', {value: !seen, configurable: true});"
            " document.dispatchEvent(new Event('visibilitychange')); }",
            seen,
        )

    def until_listeners(number: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while opened.get("/healthz")["listeners"] != number:
            assert time.monotonic() < deadline, number
            page.wait_for_timeout(20)

    page.wait_for_selector("#live[data-how=live]")
    until_listeners(1)
    looked_at(seen=False)
    until_listeners(0)
    write_ledger(opened.folder, [ledger_rows(submitted("while-away"), batch_id=200)])
    asked = []
    page.on("request", lambda one: asked.append(one.headers.get("last-event-id")) if "/v1/events" in one.url else None)
    looked_at(seen=True)
    until_listeners(1)
    page.wait_for_selector(".changes a:has-text('while-away')")
    assert asked[0]


def test_a_connection_that_is_silent_for_longer_than_a_beat_is_made_again(browser: Any, opened: OpenWindow) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    context = browser.new_context()
    tab = context.new_page()
    tab.route("**/v1/events", hold)
    tab.clock.install()
    tab.goto(opened.url)
    until_there_are(1, held, tab)
    tab.clock.fast_forward(41_000)
    until_there_are(2, held, tab)
    context.close()


def test_who_may_act_is_told_what_it_will_do_before(page: Any, opened: OpenWindow) -> None:
    waiting = opened.get("/v1/tasks?state=waiting&limit=1&sort=task")["tasks"][0]["task_id"]
    page.goto(f"{opened.url}/#/tasks/{waiting}")
    page.wait_for_selector(".steps li")
    assert page.query_selector(".acts button") is None
    page.click("#key")
    page.fill("#secret", SECRETS["all"])
    page.click("dialog button[value=use]")
    page.click(".acts button:has-text('Cancel')")
    page.wait_for_selector("dialog li:has-text('not placed any more')")
    assert page.evaluate("document.activeElement.value") == "no"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "Cancel", "the keyboard is where it was"
    assert page.query_selector("dialog[open]") is None
    assert SECRETS["all"] not in page.evaluate("location.href + document.cookie + JSON.stringify(localStorage)")


@pytest.fixture
def hand(browser: Any, acted_on: OpenWindow) -> Iterator[Any]:
    """A tab of an operator who has put in the key."""
    context = browser.new_context(viewport={"width": 1_280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    tab = context.new_page()
    tab.goto(acted_on.url)
    tab.evaluate("secret => sessionStorage.setItem('thalweg-key', secret)", SECRETS["all"])
    tab.goto(f"{acted_on.url}/#/regions")
    tab.reload()
    yield tab
    context.close()


@pytest.fixture(scope="module")
def acted_on(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> OpenWindow:
    folder = world(tmp_path_factory.mktemp("regions"), runs("a", EAST, 0), [submitted("w", **NEEDS)])
    return serving(str(folder))


def test_a_drain_is_worked_out_then_asked_for_and_what_became_of_it_is_said_by_keyboard_alone(hand: Any) -> None:
    hand.wait_for_selector("button[aria-label='Drain east']")
    hand.focus("button[aria-label='Drain east']")
    hand.keyboard.press("Enter")
    hand.wait_for_selector("dialog input[name=hours]")
    hand.keyboard.type("2")
    hand.keyboard.press("Tab")
    hand.keyboard.press("Tab")
    assert hand.evaluate("document.activeElement.textContent") == "What will it do?"
    hand.keyboard.press("Enter")
    hand.wait_for_selector("dialog li:has-text('east is drained, to be empty by')")
    assert "left alone" in hand.inner_text("dialog") or "copy moves" in hand.inner_text("dialog")
    hand.focus("dialog button[value=yes]")
    hand.keyboard.press("Enter")
    hand.wait_for_selector("#said:has-text('no stack runs here')")


def test_what_if_shows_both_plans_and_sends_nothing(hand: Any, acted_on: OpenWindow) -> None:
    hand.keyboard.press("g")
    hand.keyboard.press("0")
    hand.select_option("select[name=region]", EAST)
    hand.fill("input[name=usd_per_gpu_hour]", "0.5")
    hand.click("form.suppose button")
    hand.wait_for_selector(".supposed li:has-text('A100 in east costs 0.50 USD')")
    hand.click("button:has-text('Plan it')")
    hand.wait_for_selector("section:has-text('Would be elsewhere') a:has-text('w')")
    said = hand.inner_text("section[aria-label^='The plan there is']").splitlines()
    (hourly,) = [row for row in said if row.startswith("USD an hour")]
    assert hourly.split("\t")[1:] == ["5.00", "3.50", "\N{MINUS SIGN}1.50"]
    assert acted_on.get("/v1/tasks/w?reasons=0")["task"]["state"] == "waiting"


def test_a_key_that_is_none_is_said_on_every_kind_of_page(page: Any) -> None:
    for name, key in (("overview", "this-is-none-of-them"), ("tasks", "ключ")):
        page.click(f"nav a[data-page={name}]")
        page.click("#key")
        page.fill("#secret", key)
        page.keyboard.press("Enter")
        page.wait_for_selector(".trouble:has-text('none of window.keys')")
        page.wait_for_selector("#key:has-text('Key unknown')")
        page.click("#key")
        page.click("dialog button:has-text('Forget it')")
        page.wait_for_selector(".trouble", state="detached")
        page.wait_for_selector("#key:text-is('Key')")


def test_an_address_that_leads_nowhere_says_so_and_the_skip_link_leads_to_the_page(page: Any) -> None:
    for address in ("#/nothing", "#/constructor"):
        page.evaluate("address => { location.hash = address; }", address)
        page.wait_for_selector(f"main:has-text('Nothing here is called {address[2:]}.')")
    page.evaluate("location.hash = '#/tasks'")
    page.wait_for_selector(".view .row .id a")
    page.focus(".skip")
    page.keyboard.press("Enter")
    until(page, "document.activeElement.id === 'main'")
    assert page.evaluate("location.hash") == "#/tasks"


def test_what_cannot_be_filtered_is_said_and_a_filter_that_is_cleared_leaves_one_page(page: Any) -> None:
    page.evaluate("location.hash = '#/tasks?state=waiting&tenant=ads'")
    page.wait_for_selector(".view .row .id a")
    page.click("button:has-text('Clear')")
    until(page, "location.hash === '#/tasks'")
    page.wait_for_selector(".chip:has-text('0 failed'), .chip:text-matches('[0-9]+ failed')")
    assert page.locator(".chips").count() == 1
    assert page.input_value("input[name=tenant]") == ""


def test_a_question_that_is_wrong_is_said_where_it_was_asked(hand: Any) -> None:
    hand.evaluate("location.hash = '#/tasks?since=yesterday'")
    hand.wait_for_selector(".trouble:has-text('yesterday')")
    assert "tried again" not in hand.inner_text(".trouble")
    hand.evaluate("location.hash = '#/tasks/100%'")
    hand.wait_for_selector(".trouble:has-text(\"there is no task '100%'\")")
    hand.evaluate("location.hash = '#/regions?region=nowhere'")
    hand.wait_for_selector("main:has-text('No region is called nowhere.')")
