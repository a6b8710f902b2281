"""The page in a real browser: every view at two widths, with data and without; what people wrote stays text."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline.settings import ApiToken
from feedback_pipeline.storage.database import Database
from feedback_pipeline_tests.page.conftest import HOSTILE_AGENT, HOSTILE_REVIEWER, WHOLE_ROOM
from feedback_pipeline_tests.passes import Pass
from feedback_pipeline_tests.serving.conftest import LearnedWorld, served

pytestmark = WHOLE_ROOM

AGENT = "drafter"
PHONE, DESK = (390, 844), (1440, 900)
Scheme = Literal["light", "dark"]
LOOKS: tuple[tuple[tuple[int, int], Scheme], ...] = ((PHONE, "dark"), (DESK, "light"))
# One agent's view has some 9,000 nodes, the overview of two agents 400.
MOST_NODES = 12_000
SERIOUS = {"serious", "critical"}
# A part of every view that is there only once everything has come.
VIEWS = {
    "": "Does it help?",
    f"agents/{AGENT}": "Forecasts and outcomes",
    f"agents/{quote(HOSTILE_AGENT, safe='')}": "Forecasts and outcomes",
    "agents/*": "Forecasts and outcomes",
    "reviewers": "Agreement",
    f"reviewers/{quote(HOSTILE_REVIEWER, safe='')}": "Agreement",
    "queue": "What if the surest were approved unread?",
}
EMPTY_VIEWS = {
    "": "No agent has been reviewed yet",
    "agents": "No agent has been reviewed yet",
    "reviewers": "Nothing has been learned yet",
    "queue": "No model yet",
}


@dataclass
class Look:
    """A page in the browser, and what went wrong on it."""

    page: Page
    wrong: list[str] = field(default_factory=list)

    def at(self, address: str, heading: str) -> "Look":
        self.page.goto(address)
        expect(self.page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        self.page.wait_for_load_state("networkidle")
        return self

    def text(self) -> str:
        return self.page.locator("main").inner_text()


@contextmanager
def looking(browser: Browser, size: tuple[int, int] = DESK, scheme: Scheme = "light") -> Iterator[Look]:
    """Notes errors and warnings of the console, exceptions, answers that are errors, and requests to any other host."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    look = Look(context.new_page())
    wrong = look.wrong
    look.page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    look.page.on("pageerror", lambda error: wrong.append(str(error)))
    look.page.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
    look.page.on("request", lambda sent: None if "//127.0.0.1:" in sent.url else wrong.append(sent.url))
    yield look
    context.close()


def faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in SERIOUS]


def _is_sound(look: Look) -> None:
    assert look.wrong == []
    assert look.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "no scrolling sideways"
    assert faults(look.page) == []
    assert look.page.evaluate("window.hacked === undefined")


@pytest.mark.parametrize(("size", "scheme"), LOOKS, ids=lambda part: str(part))
@pytest.mark.parametrize(("view", "heading"), VIEWS.items(), ids=lambda part: str(part)[:20])
def test_every_view(browser: Browser, page: str, view: str, heading: str, size: tuple[int, int], scheme: Scheme) -> None:
    with looking(browser, size, scheme) as look:
        look.at(f"{page}/#/{view}", heading)
        _is_sound(look)
        charts = look.page.locator(".chart svg")
        assert charts.count() == look.page.locator("figure").count(), "every figure is drawn"
        background = look.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(18, 22, 26)") == (scheme == "dark")


@pytest.fixture(scope="module")
def empty_page(
    make_database: Callable[[str], Database],
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
    rich_world: LearnedWorld,
) -> Iterator[str]:
    settings = Pass.at(make_database(migrated_template), tmp_path_factory.mktemp("empty"))
    with served(LearnedWorld(settings.database, settings.settings, rich_world.tracking)) as address:
        yield address


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize(("view", "heading"), EMPTY_VIEWS.items(), ids=lambda part: str(part)[:20])
def test_every_view_of_an_empty_database(
    browser: Browser, empty_page: str, view: str, heading: str, size: tuple[int, int]
) -> None:
    with looking(browser, size) as look:
        look.at(f"{empty_page}/#/{view}", heading)
        _is_sound(look)
        assert "Nothing has been learned yet." in look.page.locator("footer").inner_text()


def test_the_overview_says_what_the_api_says(browser: Browser, page: str) -> None:
    with looking(browser) as look:
        look.at(page, "Does it help?")
        told = {
            path: look.page.request.get(f"{page}{PREFIX}/{path}").json() for path in ("agents", "feedback/analytics?limit=1000")
        }
        (row,) = [one for one in told["agents"]["agents"] if one["agent_name"] == AGENT]
        weeks = [week for week in told["feedback/analytics?limit=1000"]["weeks"] if week["agent_name"] == AGENT]
        approved = sum(week["approved"] for week in weeks) / sum(week["decided"] for week in weeks)
        shown = look.page.get_by_role("row").filter(has=look.page.get_by_role("link", name=AGENT, exact=True)).first
        cells = shown.get_by_role("cell").all_inner_texts()
        assert cells[0] == AGENT
        assert cells[1] == f"{100 * approved:.0f} %"
        assert cells[4:7] == [
            f"{sum(week['reviews'] for week in weeks):,}",
            f"{row['pending']:,}",
            str(row["parts"]["correlations"]["published"]),
        ]
        assert f"{told['agents']['provenance']['n_reviews']:,}" in look.text()


def test_an_agent_has_its_recommendations_effects_and_outcomes(browser: Browser, page: str) -> None:
    with looking(browser) as look:
        look.at(f"{page}/#/agents/{AGENT}", "Forecasts and outcomes")
        said = look.text()
        improvements = look.page.request.get(f"{page}{PREFIX}/agents/{AGENT}/improvements").json()
        trials = look.page.request.get(f"{page}{PREFIX}/effectiveness?agent={AGENT}").json()["trials"]
        for one in improvements["recommendations"]:
            assert one["text"] in said
        states = {trial["state"] for trial in trials if trial["n"]}
        assert states == {"active", "retired"}, "the world has both"
        assert said.count("Numbers as a table") >= 5
        pictures = [picture.get_attribute("aria-label") or "" for picture in look.page.locator(".chart").all()]
        assert sum("executions" in one and "bounds" in one for one in pictures) == 2, "one confidence sequence a trial"
        outcomes = look.page.request.get(f"{page}{PREFIX}/forecasts/outcomes?agent={AGENT}").json()
        assert outcomes["n_decided"] > 10
        assert f"{outcomes['n_decided']} outputs with a decision" in said


def test_the_fleet_has_its_thresholds(browser: Browser, page: str) -> None:
    with looking(browser) as look:
        look.at(f"{page}/#/agents/*", "Thresholds")
        patterns = look.page.request.get(f"{page}{PREFIX}/agents/*/patterns?limit=1000").json()["patterns"]
        expected = [one for one in patterns if one["type"] == "quality_threshold"][:6]
        assert expected
        drawn = look.page.get_by_role("img", name="Approval along")
        assert drawn.count() == len(expected)
        for one, picture in zip(expected, drawn.all(), strict=True):
            assert one["sentence"] in (picture.get_attribute("aria-label") or "")


def test_the_queue_is_the_queue_and_the_what_if_can_be_asked(browser: Browser, page: str) -> None:
    with looking(browser) as look:
        look.at(f"{page}/#/queue", "What to read first")
        queue = look.page.request.get(f"{page}{PREFIX}/queue?limit=50").json()
        look.page.get_by_label("Outputs").select_option("50")
        expect(look.page.get_by_role("cell", name=queue["queue"][-1]["execution_id"])).to_be_visible()
        shown = [row.get_by_role("cell").nth(2).inner_text() for row in look.page.locator("tbody").first.get_by_role("row").all()]
        assert shown == [row["execution_id"] for row in queue["queue"]]
        look.page.get_by_label("10 %", exact=True).check()
        expect(look.page.get_by_text("At 10 % nothing could be spared")).to_be_visible()


def test_names_that_are_markup_stay_text(browser: Browser, page: str, rich_world: LearnedWorld) -> None:
    with looking(browser) as look:
        look.at(f"{page}/#/agents/{quote(HOSTILE_AGENT, safe='')}", "Forecasts and outcomes")
        expect(look.page.get_by_role("heading", level=1)).to_have_text(HOSTILE_AGENT)
        look.page.locator(".chart").first.hover()
        look.at(f"{page}/#/reviewers", "Agreement")
        look.page.get_by_role("link", name=HOSTILE_REVIEWER).click()
        expect(look.page.get_by_role("heading", level=2, name=HOSTILE_REVIEWER)).to_be_visible()
        # The drawing carries the name as well, and says it when it is pointed at.
        assert HOSTILE_REVIEWER[:12] in look.page.locator(".chart").nth(1).inner_html()
        box = look.page.locator(".chart").first.bounding_box()
        assert box
        for x in range(0, int(box["width"]), 60):
            look.page.mouse.move(box["x"] + x, box["y"] + 25)
        assert look.page.evaluate("window.hacked === undefined && document.querySelector('main img, main script') === null")
        look.at(f"{page}/#/agents/%3Cscript%3Ewindow.hacked%3D1%3C%2Fscript%3E", "No such agent")
        assert look.page.evaluate("window.hacked === undefined")
        assert look.wrong == []
    assert rich_world.rows("SELECT count(*) > 0 FROM review_feedback") == [(True,)]


def test_it_can_be_used_by_keyboard(browser: Browser, page: str) -> None:
    with looking(browser) as look:
        look.at(page, "Does it help?")
        look.page.keyboard.press("Tab")
        expect(look.page.get_by_role("link", name="Skip to the content")).to_be_focused()
        look.page.keyboard.press("Enter")
        expect(look.page.locator("main")).to_be_focused()
        assert look.page.url.rstrip("/") == page, "the view is the same"
        heading = look.page.get_by_role("columnheader", name="Approved").first
        heading.get_by_role("button").focus()
        for order in ("descending", "ascending"):
            look.page.keyboard.press("Enter")
            expect(heading).to_have_attribute("aria-sort", order)
            shares = [
                float(row.get_by_role("cell").nth(1).inner_text().split()[0])
                for row in look.page.locator("tbody").first.get_by_role("row").all()
            ]
            assert shares == sorted(shares, reverse=order == "descending")
        look.page.get_by_role("navigation").get_by_role("link", name="Queue").focus()
        look.page.keyboard.press("Enter")
        expect(look.page.get_by_role("heading", level=1, name="Queue")).to_be_focused()
        assert look.page.title() == "Queue · feedback_pipeline"
        assert look.page.locator("nav a[aria-current]").inner_text() == "Queue"


def test_colours_can_be_chosen_and_stay(browser: Browser, page: str) -> None:
    with looking(browser) as look:
        look.at(page, "Does it help?")
        line = look.page.locator(".chart svg path[stroke]").first
        before = look.page.locator(".chart").first.inner_html()
        look.page.get_by_role("button", name="Switch to dark colours").click()
        expect(look.page.locator("html")).to_have_attribute("data-theme", "dark")
        assert look.page.locator(".chart").first.inner_html() != before, "charts are drawn again"
        expect(line).to_be_attached()
        look.page.reload()
        expect(look.page.locator("html")).to_have_attribute("data-theme", "dark")
        assert look.wrong == []


def test_links_lead_to_dagster_and_the_model(browser: Browser, page: str) -> None:
    with looking(browser) as look:
        look.at(page, "Does it help?")
        tools = look.page.get_by_role("banner").get_by_role("link", name="Dagster")
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", tools.get_attribute("href") or "")
        assert tools.get_attribute("rel") == "noopener noreferrer"


def test_a_token_is_asked_for_and_a_wrong_one_is_said_to_be_wrong(browser: Browser, rich_world: LearnedWorld) -> None:
    secret = "open sesame"  # noqa: S105
    tokens = {"head": ApiToken(scope="read", sha256=sha256(secret.encode()).hexdigest())}
    with served(rich_world, tokens) as address, looking(browser) as look:
        look.at(address, "Token needed")
        _is_sound(look)
        look.page.get_by_label("Token").fill("with \u201cquotes\u201d of a text program")
        look.page.get_by_role("button", name="Show", exact=True).click()
        expect(look.page.get_by_role("alert")).to_contain_text("ASCII")
        look.page.get_by_label("Token").fill("wrong")
        look.page.get_by_role("button", name="Show", exact=True).click()
        expect(look.page.get_by_role("alert")).to_contain_text("the token is not known")
        look.page.get_by_label("Token").fill(secret)
        look.page.get_by_role("button", name="Show", exact=True).click()
        expect(look.page.get_by_role("heading", name="Does it help?")).to_be_visible()
        look.page.get_by_role("button", name="Learn now").click()
        expect(look.page.get_by_role("status")).to_contain_text("this takes a token with the scope write")
        look.page.get_by_role("button", name="Other token").click()
        expect(look.page.get_by_label("Token")).to_be_visible()
        # The refusals are what the console tells of, and nothing else.
        assert {re.sub(r"http\S+", "", said).strip() for said in look.wrong if said.startswith("Failed")} <= {
            "Failed to load resource: the server responded with a status of 401 (Unauthorized)",
            "Failed to load resource: the server responded with a status of 403 (Forbidden)",
        }


def test_a_service_that_is_gone_is_said_to_be_gone(browser: Browser, rich_world: LearnedWorld) -> None:
    with looking(browser) as look:
        with served(rich_world) as address:
            look.at(address, "Does it help?")
        look.page.get_by_role("navigation").get_by_role("link", name="Queue").click()
        expect(look.page.get_by_role("alert")).to_contain_text("The service does not answer")
        with served(rich_world) as other:
            look.at(other, "Does it help?")


def test_the_files_are_checked_again_and_name_no_other_host(page: str, browser: Browser) -> None:
    with looking(browser) as look:
        for name in ("", "js/main.js", "vendor/echarts.min.js"):
            assert look.page.request.get(f"{page}/{name}").headers["cache-control"] == "no-cache"
    folder = Path(__file__).parents[2] / "feedback_pipeline" / "serving" / "static"
    assert "Apache License" in (folder / "vendor" / "echarts-LICENSE").read_text()
    for file in folder.rglob("*"):
        if file.suffix in (".html", ".css", ".js") and "vendor" not in file.parts:
            assert not re.search(r"https?://(?!www\.w3\.org)", file.read_text()), f"{file.name} names another host"


def test_of_two_lengths_of_the_queue_the_later_choice_is_shown(browser: Browser, page: str) -> None:
    with looking(browser) as look:
        held: list[Route] = []
        look.page.route("**/queue?limit=100", lambda route: held.append(route))
        look.at(f"{page}/#/queue", "What to read first")
        look.page.get_by_label("Outputs").select_option("100")
        look.page.get_by_label("Outputs").select_option("10")
        rows = look.page.locator("tbody").first.get_by_role("row")
        expect(rows).to_have_count(10)
        with look.page.expect_response("**/queue?limit=100"):
            held[0].continue_()
        look.page.wait_for_load_state("networkidle")
        expect(rows).to_have_count(10)
        look.page.route("**/queue?limit=50", lambda route: route.abort())
        look.page.get_by_label("Outputs").select_option("50")
        expect(look.page.get_by_role("alert")).to_contain_text("The service does not answer")


def test_views_that_were_left_early_are_let_go(browser: Browser, page: str) -> None:
    with looking(browser) as look:
        look.at(page, "Does it help?")
        devtools = look.page.context.new_cdp_session(look.page)
        for _ in range(3):
            look.page.evaluate(_HURRY, [f"#/agents/{AGENT}", "#/reviewers"])
            expect(look.page.get_by_role("heading", name="Does it help?")).to_be_visible()
            look.page.wait_for_load_state("networkidle")
        for _ in range(100):  # what was left last is let go after a while; what leaks never is
            devtools.send("HeapProfiler.collectGarbage")
            nodes = devtools.send("Memory.getDOMCounters")["nodes"]
            if nodes < MOST_NODES:
                break
            look.page.evaluate("new Promise(requestAnimationFrame)")
        assert nodes < MOST_NODES


_HURRY = """async (places) => {
    for (let at = 0; at < 20; at += 1) {
        location.hash = places[at % places.length];
        await new Promise((wake) => setTimeout(wake, 25));
    }
    location.hash = "#/";
}"""


def test_a_newer_run_is_said_once_and_what_is_read_stays(browser: Browser, page: str, rich_world: LearnedWorld) -> None:
    with looking(browser) as look:
        look.page.clock.install()
        look.at(page, "Does it help?")
        newer = "INSERT INTO learning_runs SELECT (json_populate_record(r, %s)).* FROM learning_runs r"
        with rich_world.database.connect() as connection:
            changed = '{"learning_run_id": "00000000-0000-4000-8000-000000000001", "published_at": "2026-11-03T00:00:00Z"}'
            connection.execute(newer.encode(), (changed,))
        try:
            look.page.clock.run_for(21_000)
            show = look.page.get_by_role("button", name="Show it")
            show.focus()
            look.page.clock.run_for(21_000)
            expect(show).to_be_focused()
            show.click()
            expect(look.page.locator("footer")).to_contain_text("00000000-0000-4000-8000-000000000001")
            expect(look.page.get_by_role("status")).to_be_empty()
        finally:
            with rich_world.database.connect() as connection:
                connection.execute("DELETE FROM learning_runs WHERE learning_run_id = '00000000-0000-4000-8000-000000000001'")


def test_a_thousand_agents_are_shown_in_parts(browser: Browser, page: str, rich_world: LearnedWorld) -> None:
    more = "INSERT INTO agent_learning_state SELECT (json_populate_record(s, json_build_object('agent_name', 'a-' || g))).*"
    with rich_world.database.connect() as connection:
        connection.execute(
            f"{more} FROM agent_learning_state s, generate_series(1, 1200) g WHERE s.agent_name = %s".encode(), (AGENT,)
        )
    try:
        with looking(browser) as look:
            look.at(page, "Does it help?")
            rows = look.page.locator("tbody").first.get_by_role("row")
            expect(rows).to_have_count(100)
            look.page.get_by_role("button", name="Show all 1202").click()
            expect(rows).to_have_count(1202)
            _is_sound(look)
    finally:
        with rich_world.database.connect() as connection:
            connection.execute("DELETE FROM agent_learning_state WHERE agent_name LIKE 'a-%'")


def test_a_person_who_is_not_there_is_said_not_to_be(browser: Browser, page: str) -> None:
    with looking(browser) as look:
        look.at(f"{page}/#/reviewers/nobody", "No such reviewer")
        assert look.wrong == []
