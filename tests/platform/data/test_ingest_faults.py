"""Every fault of a row has its code, place and value; the row is quarantined with its reason and the rest is kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from koinon.data import SplitConfig, Vault, make_split
from koinon.data.faults import FAULTS, QUARANTINE_SCHEMA
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA
from koinon.errors import DataError

Shop = Callable[..., Path]
NOW = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)


def _faults(folder: Path) -> list[tuple[object, ...]]:
    Vault.ingest(folder, now=NOW)
    quarantine = Vault(folder).quarantine()
    assert dict(quarantine.schema) == QUARANTINE_SCHEMA
    return quarantine.select("code", "table", "row", "column", "value").rows()


def test_a_clean_shop_becomes_canonical_tables(shop: Shop) -> None:
    folder = shop()
    report = Vault.ingest(folder, now=NOW)
    tables = Vault(folder).tables()
    assert dict(tables.items.schema) == ITEM_SCHEMA
    assert dict(tables.events.schema) == EVENT_SCHEMA
    assert report.quarantined == 0
    assert report.faults == ()
    assert tables.items["language"].to_list() == ["de", "de", "de", "en"]
    assert tables.items["text"].to_list()[1] == 'Der "kleine" Prinz. Antoine de Saint-Exupéry'
    assert tables.items["price"].to_list() == [9.9, 8.5, None, 12.0]
    assert tables.items["categories"].to_list() == [["Krimi", "Thriller"], ["Kinder"], [], ["Fantasy"]]
    assert tables.users.rows() == [("k1", "f", 34), ("k2", "m", 51), ("k3", "f", 27)]


def test_local_times_are_read_in_the_partners_zone_and_others_as_they_say(shop: Shop) -> None:
    folder = shop()
    Vault.ingest(folder, now=NOW)
    events = Vault(folder).tables().events
    moments = {(row["user_id"], row["item_id"]): row["timestamp"] for row in events.to_dicts()}
    assert moments["k1", "b1"] == datetime(2024, 3, 1, 9, tzinfo=UTC)
    assert moments["k3", "b2"] == datetime(2024, 7, 1, 10, tzinfo=UTC)
    assert moments["k2", "b3"] == datetime(2024, 2, 2, 9, 30, tzinfo=UTC)


def test_the_context_of_events_is_kept_in_the_vault_and_divided_with_them(shop: Shop) -> None:
    lines = shop.EVENTS.splitlines()
    told = ["geraet", "Telefon", "", " Rechner ", "Telefon", "null"]
    events = "".join(f"{line},{word}\n" for line, word in zip(lines, told, strict=True))
    declared = ("[sources.users]\npath", '[sources.events.context]\ndevice = "geraet"\n\n[sources.users]\npath')
    folder = shop(events=events, edit=declared)
    assert Vault.ingest(folder, now=NOW).quarantined == 0
    tables = Vault(folder).tables()
    assert dict(tables.events.schema) == {**EVENT_SCHEMA, "context.device": pl.String()}
    devices = {(row["user_id"], row["item_id"]): row["context.device"] for row in tables.events.to_dicts()}
    pairs = [("k1", "b1"), ("k1", "b2"), ("k2", "b1"), ("k2", "b3"), ("k3", "b2")]
    assert devices == dict(zip(pairs, ["Telefon", None, "Rechner", "Telefon", None], strict=True))
    split = make_split("buecher", tables, SplitConfig(protocol="holdout", minimum_item_events=1, cold_items=0.0))
    context = split.events.marks.context["device"]
    assert [context.values[code] if code >= 0 else None for code in context.code] == [
        devices[split.train.user_ids[user], split.train.items["item_id"][int(item)]]
        for user, item in zip(split.events.user, split.events.item, strict=True)
    ]


def test_a_context_column_that_is_not_there_or_holds_nothing(shop: Shop) -> None:
    declared = ("[sources.users]\npath", '[sources.events.context]\ndevice = "geraet"\n\n[sources.users]\npath')
    with pytest.raises(DataError, match=r"K205.*geraet"):
        Vault.ingest(shop(edit=declared), now=NOW)
    lines = shop.EVENTS.splitlines()
    folder = shop(
        events="".join(f"{line},{'' if row else 'geraet'}\n" for row, line in enumerate(lines)), edit=declared
    )
    Vault.ingest(folder, now=NOW)
    tables = Vault(folder).tables()
    split = make_split("buecher", tables, SplitConfig(protocol="holdout", minimum_item_events=1, cold_items=0.0))
    assert split.events.marks.context["device"].values == ()
    assert (split.events.marks.context["device"].code == -1).all()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"more_items": "b9,Zu,viele,1,de,Felder,hier\n"}, ("K210", "items", 6, None, None)),
        ({"more_items": ",Ohne Id,,,de,\n"}, ("K212", "items", 6, "id", None)),
        (
            {"more_items": "b1,Das fremde Gesicht,Mary Higgins Clark,9.90,de,Krimi|Thriller\n"},
            ("K213", "items", 6, "id", "b1"),
        ),
        ({"more_items": "b1,Ein anderes Gesicht,,,de,\n"}, ("K214", "items", 6, "id", "b1")),
        ({"more_items": "b9, ,,3,de,Krimi\n"}, ("K215", "items", 6, "text", None)),
        ({"more_items": "b9,Titel,,teuer,de,\n"}, ("K221", "items", 6, "preis", "teuer")),
        ({"more_items": "b9,Titel,,-1,de,\n"}, ("K222", "items", 6, "preis", "-1")),
        ({"more_items": "b9,Titel,,,klingonisch,\n"}, ("K223", "items", 6, "sprache", "klingonisch")),
        ({"more_events": "k1,b3\n"}, ("K210", "events", 7, None, None)),
        ({"more_events": ",b3,2024-03-01 10:00:00,1\n"}, ("K212", "events", 7, "kunde", None)),
        ({"more_events": "k1,,2024-03-01 10:00:00,1\n"}, ("K212", "events", 7, "buch", None)),
        ({"more_events": "k1,b3,,1\n"}, ("K212", "events", 7, "zeit", None)),
        ({"more_events": "k1,b1,2024-03-01 10:00:00,5\n"}, ("K213", "events", 7, "kunde", "k1")),
        ({"more_events": "k1,b1,2024-03-01 10:00:00,2\n"}, ("K214", "events", 7, "kunde", "k1")),
        ({"more_events": "k1,b77,2024-03-01 10:00:00,1\n"}, ("K216", "events", 7, "buch", "b77")),
        ({"more_events": "k9,b1,2024-03-01 10:00:00,1\n"}, ("K217", "events", 7, "kunde", "k9")),
        ({"more_events": "k1,b3,gestern,1\n"}, ("K218", "events", 7, "zeit", "gestern")),
        ({"more_events": "k1,b3,2024-03-31 02:30:00,1\n"}, ("K218", "events", 7, "zeit", "2024-03-31 02:30:00")),
        ({"more_events": "k1,b3,2031-01-01 00:00:00,1\n"}, ("K219", "events", 7, "zeit", "2031-01-01 00:00:00")),
        ({"more_events": "k1,b3,1970-01-01 00:00:00,1\n"}, ("K224", "events", 7, "zeit", "1970-01-01 00:00:00")),
        ({"more_events": "k1,b3,2024-03-01 10:00:00,gut\n"}, ("K221", "events", 7, "note", "gut")),
        ({"more_users": "k2,m,51\n"}, ("K213", "users", 5, "kunde", "k2")),
        ({"more_users": "k2,m,52\n"}, ("K214", "users", 5, "kunde", "k2")),
    ],
)
def test_a_fault_is_reported_with_place_and_value_and_no_good_row_is_lost(
    shop: Shop, change: dict[str, str], fault: tuple[object, ...]
) -> None:
    folder = shop(**change)
    assert _faults(folder) == [fault]
    vault = Vault(folder)
    tables = vault.tables()
    assert set(tables.items["item_id"]) >= {"b1", "b2", "b3", "b4"}
    assert tables.events.height >= 5
    assert tables.users.height == 3
    described = vault.quarantine().row(0, named=True)
    code = str(fault[0])
    stays = FAULTS[code].kept or (fault[1] == "items" and code in ("K221", "K222"))
    assert described["kept"] is stays
    assert described["file"] == f"{fault[1]}.csv"
    assert described["reason"]
    assert described["remedy"]
    table = vault.manifest()["report"]["tables"][fault[1]]
    assert table["read"] == table["kept"] + table["quarantined"]
    assert table["quarantined"] == int(not stays)


def test_every_fault_code_has_a_name_of_its_own() -> None:
    names = [kind.name for kind in FAULTS.values()]
    assert len(set(names)) == len(names)
    assert all(kind.reason.endswith(".") and kind.remedy.endswith(".") for kind in FAULTS.values())


def test_several_faults_of_one_row_are_all_reported(shop: Shop) -> None:
    codes = [fault[0] for fault in _faults(shop(more_events=",b1,gestern,gut\n"))]
    assert sorted(codes) == ["K212", "K218", "K221"]


def test_a_good_second_row_survives_a_broken_first_one(shop: Shop) -> None:
    folder = shop(more_items="b9,,,1,de,\nb9,Ein Titel,,1,de,\n")
    assert [fault[0] for fault in _faults(folder)] == ["K215"]
    assert "b9" in Vault(folder).tables().items["item_id"]


def test_damaged_bytes_quarantine_their_row_only(shop: Shop) -> None:
    folder = shop(items=shop.ITEMS.encode() + b"b9,M\xe4rchen,,,de,\n")
    [(code, table, row, column, value)] = _faults(folder)
    assert (code, table, row, column) == ("K211", "items", 6, "titel")
    assert "\ufffd" in str(value)


@pytest.mark.parametrize(
    ("column", "odd", "unit"),
    [
        ([1_700_000_000, 1_700_000_100, 1_700_000_200, 1_700_000_300, 1_700_000_000_000], 4, "s"),
        ([1_700_000_000_000, 1_700_000_100_000, 1_700_000_200_000, 1_700_000_300_000, 1_700_000_400], 4, "ms"),
    ],
)
def test_times_in_another_unit_than_the_column_are_named(shop: Shop, column: list[int], odd: int, unit: str) -> None:
    books = ["b1", "b2", "b3", "b4", "b1"]
    events = "kunde,buch,zeit,note\n" + "".join(
        f"k1,{book},{time},1\n" for book, time in zip(books, column, strict=True)
    )
    folder = shop(events=events)
    assert _faults(folder) == [("K220", "events", odd + 2, "zeit", str(column[odd]))]
    first = Vault(folder).tables().events["timestamp"].min()
    assert first == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_events_without_times_keep_the_order_of_their_source(shop: Shop) -> None:
    events = "kunde,buch,zeit,note\n" + "".join(f"k1,{book},,1\n" for book in ("b3", "b1", "b2"))
    folder = shop(events=events, edit=('timestamp = "zeit"\n', ""))
    assert _faults(folder) == []
    kept = Vault(folder).tables().events
    assert kept["item_id"].to_list() == ["b3", "b1", "b2"]
    assert kept["timestamp"].null_count() == 3


def test_a_place_column_orders_events_without_times(shop: Shop) -> None:
    events = "kunde,buch,zeit,note\n" + "k1,b3,10,1\nk1,b1,9,1\nk1,b2,x,1\n"
    folder = shop(events=events, edit=('timestamp = "zeit"', 'order = "zeit"'))
    assert _faults(folder) == [("K221", "events", 4, "zeit", "x")]
    assert Vault(folder).tables().events["item_id"].to_list() == ["b1", "b3"]


def test_ids_agree_whatever_type_their_file_gives_them(shop: Shop) -> None:
    folder = shop(edit=('path = "events.csv"', 'path = "events.parquet"'))
    pl.DataFrame(
        {"kunde": [1.0, None, 2.0], "buch": ["b1", "b2", "b3 "], "zeit": [datetime(2024, 1, 1)] * 3, "note": [1, 2, 3]}
    ).write_parquet(folder / "events.parquet")
    (folder / "users.csv").write_text("kunde,geschlecht,alter\n1,f,30\n2,m,31\n")
    assert _faults(folder) == [("K212", "events", 2, "kunde", None)]
    assert Vault(folder).tables().events["user_id"].to_list() == ["1", "2"]


def test_codes_that_look_like_numbers_stay_texts(shop: Shop) -> None:
    folder = shop(users="kunde,geschlecht,alter\nk1,f,01067\nk2,m,10115\nk3,,\n")
    Vault.ingest(folder, now=NOW)
    assert Vault(folder).tables().users["age"].to_list() == ["01067", "10115", None]


def test_a_table_without_one_good_row_is_an_error_that_quotes_the_first_fault(shop: Shop) -> None:
    events = shop.EVENTS.replace(",b", ",x")
    folder = shop(events=events.replace("kunde,xuch", "kunde,buch"))
    with pytest.raises(DataError, match="K208") as caught:
        Vault.ingest(folder, now=NOW)
    assert "events.csv, row 2, column `buch`" in str(caught.value)
    assert "K216" in str(caught.value)
    assert not Vault(folder).exists


def test_rows_whose_person_cannot_be_told_keep_their_number_but_not_their_content(shop: Shop) -> None:
    folder = shop(more_events="k1,b3\n,b1,2024-03-01 10:00:00,5\n", more_users=",f,44\n")
    _faults(folder)
    quarantine = Vault(folder).quarantine()
    assert quarantine["row"].to_list() == [7, 8, 5]
    assert quarantine["content"].null_count() == quarantine["value"].null_count() == 3


def test_remarks_are_counted_in_full_and_kept_up_to_a_thousand(shop: Shop) -> None:
    more = "".join(f"x{n},b1,2024-03-01 10:00:00,5\n" for n in range(1500))
    folder = shop(more_events=more)
    report = Vault.ingest(folder, now=NOW)
    assert [(fault.code, fault.rows) for fault in report.faults] == [("K217", 1500)]
    assert Vault(folder).quarantine().height == 1000
    assert report.tables["events"].kept == 1505


def test_the_guide_names_every_fault() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "data-contract.md").read_text(encoding="utf-8")
    for code, kind in FAULTS.items():
        assert f"| {code} | {kind.name} |" in guide
