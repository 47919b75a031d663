"""The page for people, drawn from values."""

from __future__ import annotations

import html.parser

from producer.api.console import PoolRow, draw
from tasks.loading.load import parse

CONFIG = parse("""
models:
  fast: {provider: simulated, capacity: 4}
routes:
  billing: {description: "<b>invoices</b> & refunds", models: [fast], prompt: a secret, examples: [secret]}
default_route: billing
""")


class Page(html.parser.HTMLParser):
    """The tags of a page, and the addresses that they load or link."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in {"src", "href", "action"}]


def test_page_shows_each_pool_s_counts_and_marks_simulated_ones():
    page = draw([PoolRow("fast", 4, 7, 2, 1234, simulated=True), PoolRow("new", 0, 0, 0, 0, simulated=False)], CONFIG)

    assert 'data-name="running">2<' in page
    assert 'data-name="queued">7<' in page
    assert 'data-name="waiting">1,234<' in page
    assert "width:50%" in page
    assert page.count(">simulated<") == 1


def test_page_runs_no_script_and_loads_nothing():
    page = Page(draw([], CONFIG, flower="https://flower.example/"))

    assert "script" not in page.tags
    assert [address for address in page.loads if not address.startswith("data:")] == ["https://flower.example/"]


def test_page_escapes_names_and_leaves_out_prompts():
    page = draw([], CONFIG)

    assert "&lt;b&gt;invoices&lt;/b&gt; &amp; refunds" in page
    assert "secret" not in page


def test_page_links_only_a_web_address():
    assert "javascript" not in draw([], CONFIG, flower="javascript:alert(1)")


def test_page_without_redis_says_so():
    page = draw(None, CONFIG)

    assert "Redis does not answer" in page
    assert "data-name" not in page
