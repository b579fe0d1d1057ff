"""What the data report counts, and that its HTML opens offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from koinon.data import Vault
from koinon.data.check import data_report, render_html, render_text

Shop = Callable[..., Path]


@pytest.fixture
def folder(shop: Shop) -> Path:
    place = shop(
        more_items="b5,<script>alert(1)</script>,,x,de,\nb9,,,,de,\n",
        more_events="k1,b77,2024-03-01 10:00:00,1\n",
        more_users="k4,f,\n",
    )
    Vault.ingest(place)
    return place


def test_the_counts_are_those_of_the_tables(folder: Path) -> None:
    report = data_report(Vault(folder))
    assert report["counts"] == {"items": 5, "events": 5, "users": 3, "users_with_attributes": 4}
    assert report["density"] == pytest.approx(5 / 15)
    assert report["per_user"]["histogram"] == [{"label": "1", "count": 1}, {"label": "2", "count": 2}]
    assert report["per_item"]["histogram"][0] == {"label": "0", "count": 2}
    assert [(row["language"], row["items"]) for row in report["languages"]] == [("de", 4), ("en", 1)]
    assert report["cold"]["items_without_events"] == {"count": 2, "share": 0.4}
    assert report["cold"]["users_with_at_most_two_events"] == {"count": 3, "share": 1.0}
    assert report["time"]["from"].startswith("2024-02-01T08:30")
    assert sum(bin["count"] for bin in report["time"]["histogram"]) == 5


def test_groups_are_those_of_the_declared_attributes(folder: Path) -> None:
    gender, age = data_report(Vault(folder))["groups"]
    assert (gender["attribute"], gender["sensitive"], gender["missing"]) == ("gender", True, 0)
    assert [(group["value"], group["users"], group["events"]) for group in gender["groups"]] == [
        ("f", 3, 3),
        ("m", 1, 2),
    ]
    assert all(group["small"] for group in gender["groups"])
    assert (age["sensitive"], age["missing"], age["distinct"]) == (False, 1, 3)


def test_numbers_of_many_values_are_put_into_bands_in_their_order(shop: Shop) -> None:
    users = "kunde,geschlecht,alter\n" + "".join(f"k{n},f,{n}\n" for n in range(8, 40))
    place = shop(users=users)
    Vault.ingest(place)
    _, age = data_report(Vault(place))["groups"]
    assert [(group["value"], group["users"]) for group in age["groups"]] == [
        ("0–9", 2),
        ("10–19", 10),
        ("20–29", 10),
        ("30–39", 10),
    ]


def test_faults_come_with_an_example_and_a_remedy(folder: Path) -> None:
    faults = {fault["code"]: fault for fault in data_report(Vault(folder))["faults"]}
    assert set(faults) == {"K215", "K216", "K221"}
    assert (faults["K216"]["file"], faults["K216"]["first_row"], faults["K216"]["value"]) == ("events.csv", 7, "b77")
    assert faults["K221"]["kept"]
    assert not faults["K216"]["kept"]
    assert all(fault["remedy"] and fault["reason"] for fault in faults.values())


def test_the_report_is_plain_json_and_readable_text(folder: Path) -> None:
    report = data_report(Vault(folder))
    assert json.loads(json.dumps(report)) == report
    text = render_text(report)
    assert "5 items, 3 users, 5 events" in text
    assert "K216 unknown-item: 1 row quarantined; first: events.csv row 7, column buch, value 'b77'" in text


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]


def test_the_html_stands_alone_and_draws_histograms(folder: Path) -> None:
    html = render_html(data_report(Vault(folder)))
    page = _References()
    page.feed(html)
    assert "svg" in page.tags
    assert page.tags.isdisjoint({"script", "link", "img", "iframe"})
    assert page.links == []
    assert "http" not in html.replace("http-equiv", "")
    assert "gender" in html
    assert "K216" not in html.partition("<body>")[0]


def test_a_partner_without_users_table_or_times_can_be_reported(shop: Shop) -> None:
    place = shop(edit=('timestamp = "zeit"\n', ""))
    text = (place / "partner.toml").read_text().partition("[sources.users]")[0]
    (place / "partner.toml").write_text(text)
    Vault.ingest(place)
    report = data_report(Vault(place))
    assert report["time"] is None
    assert report["groups"] == []
    assert "no times" in render_html(report)
    assert "none: evaluation" in render_text(report)
