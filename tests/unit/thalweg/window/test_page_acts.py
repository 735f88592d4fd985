"""Every act of the page in a real Chromium, by the keyboard: what it will do, the question, and what became of it.

The hands that send are played: they note what they are asked to do and answer as the place job does. What they send for
real is `tests/acceptance/test_window.py`'s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.ledger_rows import happened, ledger, submitted
from tests.unit.cli.test_opportunities import EAST, NEEDS, WEST, runs, world
from tests.unit.cli.test_order_commands import ordered
from tests.unit.thalweg.window.conftest import SECRETS, OpenWindow, Serving
from tests.unit.thalweg.window.test_page import CHROMIUM, PATIENCE_MS, until_there_are
from tests.unit.thalweg.window.test_page import browser as browser
from thalweg.streams.contract.messages import Answer, ControlOrder, OrderAnswer
from thalweg.window import server
from thalweg.window.acts import Acted, ActSender
from thalweg.window.keys import Caller

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


class PlayedHands(ActSender):
    """Notes what is asked of it, and answers."""

    asked: Final[list[dict[str, Any]]] = []

    async def change(self, op: str, task_ids: Sequence[str], caller: Caller, wait_s: float) -> list[Acted]:
        self.asked.append({"op": op, "task_ids": list(task_ids), "who": caller.name})
        answer = Answer(task_id=task_ids[0], op=op, answer="taken", reason=f"{op} by the place job")  # type: ignore[arg-type]
        return [Acted(task_id=task_ids[0], answer=answer)]

    async def order(self, order: ControlOrder, wait_s: float) -> OrderAnswer | None:
        named = (
            "order",
            "region",
            "node_id",
            "tenant",
            "task_id",
            "quota_gpus",
            "usd_per_gpu_hour",
            "gpu_model",
            "reset",
            "who",
        )
        self.asked.append({name: value for name in named if (value := getattr(order, name))})
        return OrderAnswer(order=order.order, answer="taken", subject="it", reason=f"{order.order} by the place job")


@pytest.fixture(scope="module")
def opened(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWindow]:
    """A task that runs in EAST, one that waits, and one that is held."""
    rows = (runs("a", EAST, 0), [submitted("w", **NEEDS)], [submitted("h", **NEEDS), happened("h", "held", 0)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "ActSender", PlayedHands)
        yield serving(str(world(tmp_path_factory.mktemp("acts"), *rows)))


@pytest.fixture(scope="module")
def ordered_before(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWindow]:
    """EAST is drained, and the tenant is held."""
    stands = [
        ordered(f"drain/{EAST}", {"type": "drain", "region": EAST, "node_id": None, "by_ms": None}),
        ordered("hold/default", {"type": "hold", "tenant": "default"}),
    ]
    rows = (runs("a", WEST, 0), [submitted("w", **NEEDS)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "ActSender", PlayedHands)
        yield serving(str(world(tmp_path_factory.mktemp("stand"), *rows, more=[ledger(*stands, batch_id=9)])))


@pytest.fixture(params=["wide", "narrow"])
def tab(request: pytest.FixtureRequest, browser: Any, opened: OpenWindow) -> Iterator[Any]:
    """A tab of an operator who has put in the key."""
    size = {"width": 1_280, "height": 800} if request.param == "wide" else {"width": 360, "height": 740}
    context = browser.new_context(viewport=size)
    context.set_default_timeout(PATIENCE_MS)
    shown = context.new_page()
    with_key(shown, opened)
    PlayedHands.asked.clear()
    yield shown
    context.close()


def with_key(shown: Any, window: OpenWindow) -> None:
    shown.goto(window.url)
    shown.evaluate("secret => sessionStorage.setItem('thalweg-key', secret)", SECRETS["all"])
    shown.reload()
    shown.wait_for_selector("#key:has-text('Key: all')")


@dataclass(frozen=True, kw_only=True)
class Act:
    """How an act is asked for, and what then has to be said and sent."""

    page: str
    button: str
    asks_first: bool = False
    """Whether something is put in before."""
    puts_in: tuple[tuple[str, str], ...] = ()
    will: str
    sends: dict[str, Any]


WHO: Final = {"who": "all (window)"}
PRICED: Final = {"region": WEST, "gpu_model": "A100", "usd_per_gpu_hour": 1.5}
ACTS: Final = {
    "cancel": Act(
        page="tasks/a",
        button=":has-text('Cancel')",
        will="1 GPU becomes free",
        sends={"op": "cancel", "task_ids": ["a"], "who": "all"},
    ),
    "hold": Act(
        page="tasks/w",
        button=":has-text('Hold')",
        will="it does not start until it is released",
        sends={"op": "hold", "task_ids": ["w"], "who": "all"},
    ),
    "release": Act(
        page="tasks/h",
        button=":has-text('Release')",
        will="it waits",
        sends={"op": "release", "task_ids": ["h"], "who": "all"},
    ),
    "move": Act(
        page="tasks/a",
        button=":has-text('Move')",
        asks_first=True,
        will="copy 0 of a is in west",
        sends={"order": "move", "region": WEST, "task_id": "a", **WHO},
    ),
    "drain": Act(
        page="regions",
        button="[aria-label='Drain east']",
        asks_first=True,
        will="1 copy moves (1 to west)",
        sends={"order": "drain", "region": EAST, **WHO},
    ),
    "drain a node": Act(
        page=f"regions?region={EAST}",
        button="[aria-label='Drain east/east-n']",
        asks_first=True,
        will="east/east-n is drained",
        sends={"order": "drain", "region": EAST, "node_id": "east-n", **WHO},
    ),
    "price": Act(
        page="regions",
        button="[aria-label='Price in west']",
        asks_first=True,
        puts_in=(("usd_per_gpu_hour", "1.5"),),
        will="west/A100/on-demand costs 1.5",
        sends={"order": "price", **PRICED, **WHO},
    ),
    "quota": Act(
        page="tenants",
        button="[aria-label='Limits of default']",
        asks_first=True,
        puts_in=(("quota_gpus", "4"),),
        will="tenant default: ",
        sends={"order": "tenant", "tenant": "default", "quota_gpus": 4, **WHO},
    ),
    "hold a tenant": Act(
        page="tenants",
        button="[aria-label='Hold default']",
        will="tenant default is held",
        sends={"order": "hold", "tenant": "default", **WHO},
    ),
}
BACK: Final = {
    "undrain": Act(
        page="regions",
        button="[aria-label='Undrain east']",
        will="east",
        sends={"order": "undrain", "region": EAST, **WHO},
    ),
    "release a tenant": Act(
        page="tenants",
        button="[aria-label='Release default']",
        will="default",
        sends={"order": "release", "tenant": "default", **WHO},
    ),
}


@pytest.mark.parametrize("name", ACTS)
def test_an_act_says_what_it_will_do_asks_does_it_and_says_what_became_of_it(
    tab: Any, opened: OpenWindow, name: str
) -> None:
    acted(tab, opened, ACTS[name])


@pytest.mark.parametrize("name", BACK)
def test_what_stands_is_taken_back_in_the_same_way(tab: Any, ordered_before: OpenWindow, name: str) -> None:
    with_key(tab, ordered_before)
    acted(tab, ordered_before, BACK[name])


def acted(tab: Any, opened: OpenWindow, act: Act) -> None:
    """Ask for an act by the keyboard, and see all of its steps."""
    tab.goto(f"{opened.url}/#/{act.page}")
    button = f".body button{act.button}"
    tab.wait_for_selector(button)
    tab.focus(button)
    tab.keyboard.press("Enter")
    if act.asks_first:
        tab.wait_for_selector("dialog[open] button:has-text('What will it do?')")
        for field, value in act.puts_in:
            tab.focus(f"dialog [name={field}]")
            tab.keyboard.press("Control+A")
            tab.keyboard.type(value)
        tab.focus("dialog button:has-text('What will it do?')")
        tab.keyboard.press("Enter")
    tab.wait_for_selector(f"dialog[open] .words li:has-text('{act.will}')")
    assert PlayedHands.asked == [], "nothing is sent before somebody says yes"
    assert tab.evaluate("document.activeElement.value") == "no", "what is easy to press changes nothing"
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.value") == "yes"
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#said:has-text('by the place job')")
    (sent,) = PlayedHands.asked
    assert {key: value for key, value in sent.items() if key in act.sends} == act.sends
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_was_asked_for_is_heard_of_on_another_page_and_a_question_is_not(tab: Any, opened: OpenWindow) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    tab.route("**/v1/tasks/a/cancel", hold)
    tab.goto(f"{opened.url}/#/tasks/a")
    for answer in ("yes", None):
        tab.click(".acts button:has-text('Cancel')")
        tab.wait_for_selector("dialog button[value=yes]:enabled")
        if answer:
            tab.click("dialog button[value=yes]")
            until_there_are(1, held, tab)
        tab.evaluate("location.hash = '#/regions'")
        if answer:
            held.pop().continue_()
            tab.wait_for_selector("#said:has-text('by the place job')")
        tab.wait_for_selector("h1:has-text('Regions')")
        tab.wait_for_selector("dialog[open]", state="detached")
        tab.go_back()
    assert len(PlayedHands.asked) == 1


def test_who_says_no_sends_nothing_and_who_has_no_key_is_shown_no_act(tab: Any, opened: OpenWindow) -> None:
    tab.goto(f"{opened.url}/#/tasks/a")
    tab.click(".acts button:has-text('Cancel')")
    tab.wait_for_selector("dialog[open] .words li")
    tab.keyboard.press("Escape")
    tab.evaluate("sessionStorage.clear()")
    tab.reload()
    for page, there in (("tasks/a", ".steps li"), ("regions", "td"), ("tenants", "td")):
        tab.goto(f"{opened.url}/#/{page}")
        tab.wait_for_selector(f".body {there}")
        assert tab.query_selector(".body .grave") is None, page
    assert PlayedHands.asked == []
    for key in (None, "look"):
        assert opened.ask("/v1/tasks/a/cancel", method="POST", key=key)[0] == 403
    assert opened.ask("/v1/tasks/a/cancel", method="POST", key="a-key-that-has-expired")[0] == 401
    assert PlayedHands.asked == []
