"""The data report of ``koinon partner check``: what a partner's data is like, as values, as text, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from koinon.data.faults import FAULTS
from koinon.data.vault import Vault

__all__ = ["SMALL_GROUP", "data_report", "render_html", "render_text"]

SMALL_GROUP = 30
"""Groups with fewer people are marked: figures about them are mostly chance, and may tell of single people."""

_MOST_GROUPS = 12
_BAND = 10


def data_report(vault: Vault) -> dict[str, Any]:
    """Describe a partner's vault.

    Returns
    -------
    Plain values, ready for JSON: ``partner``, ``counts``, ``density`` (share of all user-item pairs that occur, 0-1),
    ``per_user`` and ``per_item`` (events: quantiles and histogram), ``languages``, ``time`` (``None`` where there is
    none), ``cold``, ``texts``, ``groups`` (by declared attribute), ``rows`` (read, kept, quarantined ...), ``faults``.

    Raises
    ------
    DataError
        K209 there is no vault yet, or it is damaged.
    """
    tables, manifest = vault.tables(), vault.manifest()
    items, events, users = tables.items, tables.events, tables.users
    pairs = events.select("user_id", "item_id").unique()
    by_user = events.group_by("user_id").len()["len"].sort()
    by_item = (
        items.select("item_id")
        .join(events.group_by("item_id").len(), on="item_id", how="left")
        .select(pl.col("len").fill_null(0))
        .to_series()
        .sort()
    )
    report: dict[str, Any] = manifest["report"]
    return {
        "version": 1,
        "partner": vault.name,
        "catalogue": vault.config.catalogue,
        "fingerprint": vault.fingerprint(),
        "counts": {
            "items": items.height,
            "events": events.height,
            "users": len(by_user),
            "users_with_attributes": users.height,
        },
        "density": pairs.height / max(items.height * len(by_user), 1),
        "per_user": _spread(by_user),
        "per_item": _spread(by_item),
        "languages": _shares(items["language"], "items"),
        "time": _time(events),
        "cold": _cold(by_user, by_item),
        "texts": _spread(items["text"].str.len_chars()),
        "groups": [_groups(users, events, name, name in vault.config.sensitive) for name in users.columns[1:]],
        "rows": report.get("tables", {}),
        "faults": _faults(report.get("faults", []), vault.quarantine()),
    }


def _spread(values: pl.Series) -> dict[str, Any]:
    if values.is_empty():
        return {"mean": 0.0, "median": 0.0, "p10": 0.0, "p90": 0.0, "max": 0, "histogram": []}
    return {
        "mean": round(float(values.mean() or 0.0), 3),  # type: ignore[arg-type]
        "median": float(values.median() or 0.0),  # type: ignore[arg-type]
        "p10": float(values.quantile(0.1) or 0.0),
        "p90": float(values.quantile(0.9) or 0.0),
        "max": int(values.max() or 0),  # type: ignore[arg-type]
        "histogram": _doubling(values.cast(pl.Int64)),
    }


def _doubling(values: pl.Series) -> list[dict[str, Any]]:
    """Histogram with bins 0, 1, 2, 3-4, 5-8, 9-16 ..."""
    bins = []
    low, high, top = 0, 0, int(values.max() or 0)  # type: ignore[arg-type]
    while low <= top:
        count = int(values.is_between(low, high).sum())
        bins.append({"label": str(low) if low == high else f"{low}–{high}", "count": count})
        low, high = high + 1, max(high * 2, 1)
    while bins and bins[0]["count"] == 0:
        bins.pop(0)
    return bins


def _shares(values: pl.Series, what: str) -> list[dict[str, Any]]:
    counted = values.value_counts(sort=True)
    total = max(len(values), 1)
    return [{values.name: name, what: count, "share": count / total} for name, count in counted.rows()]


def _time(events: pl.DataFrame) -> dict[str, Any] | None:
    stamps = events["timestamp"].drop_nulls()
    if stamps.is_empty():
        return None
    first, last = events.select(pl.min("timestamp")).item(), events.select(pl.max("timestamp")).item()
    days = (last - first).total_seconds() / 86400
    step, shape = ("1y", "%Y") if days > 365 * 6 else ("1mo", "%Y-%m") if days > 90 else ("1d", "%m-%d")
    counted = (
        stamps.dt.truncate(step).value_counts().sort("timestamp").upsample("timestamp", every=step)
        if stamps.dt.truncate(step).n_unique() > 1
        else stamps.dt.truncate(step).value_counts()
    )
    return {
        "from": first.isoformat(),
        "to": last.isoformat(),
        "days": round(days, 2),
        "histogram": [
            {"label": moment.strftime(shape), "count": count or 0}
            for moment, count in counted.select("timestamp", "count").rows()
        ],
    }


def _cold(by_user: pl.Series, by_item: pl.Series) -> dict[str, Any]:
    def share(part: pl.Series) -> dict[str, Any]:
        return {"count": int(part.sum()), "share": float(part.mean() or 0.0) if len(part) else 0.0}  # type: ignore[arg-type]

    return {
        "items_without_events": share(by_item == 0),
        "items_with_one_event": share(by_item == 1),
        "users_with_at_most_two_events": share(by_user <= 2),
    }


def _groups(users: pl.DataFrame, events: pl.DataFrame, name: str, sensitive: bool) -> dict[str, Any]:
    """Sizes of an attribute's groups; numbers of many values are put into bands of ten."""
    column = users[name]
    banded = column.dtype.is_numeric() and column.n_unique() > _MOST_GROUPS
    if banded:
        low = (column.cast(pl.Float64) / _BAND).floor().cast(pl.Int64) * _BAND
        label, order = low.cast(pl.String) + "–" + (low + _BAND - 1).cast(pl.String), low
    else:
        label, order = column.cast(pl.String), column.rank("dense").cast(pl.Int64)
    people = pl.DataFrame({"user_id": users["user_id"], "value": label, "order": order})
    counted = (
        people.drop_nulls("value")
        .join(events.group_by("user_id").len("events"), on="user_id", how="left")
        .group_by("value")
        .agg(users=pl.len(), events=pl.col("events").sum(), order=pl.col("order").min())
    )
    sort = ["order"] if column.dtype.is_numeric() else ["users"]
    shown = counted.sort(*sort, "value", descending=[not column.dtype.is_numeric(), False])
    groups = [
        {
            "value": row["value"],
            "users": row["users"],
            "events": row["events"],
            "share": row["users"] / users.height,
            "small": row["users"] < SMALL_GROUP,
        }
        for row in shown.head(50).to_dicts()
    ]
    return {
        "attribute": name,
        "sensitive": sensitive,
        "distinct": counted.height,
        "missing": column.null_count(),
        "groups": groups,
    }


def _faults(counted: list[dict[str, Any]], quarantine: pl.DataFrame) -> list[dict[str, Any]]:
    faults = []
    for fault in counted:
        kind = FAULTS[fault["code"]]
        match = quarantine.filter(
            (pl.col("code") == fault["code"])
            & (pl.col("table") == fault["table"])
            & pl.col("column").eq_missing(fault["column"])
        )
        example = match.row(0, named=True) if match.height else {"row": fault["first_row"], "value": None}
        faults.append(
            {
                **fault,
                "first_row": example["row"],
                "name": kind.name,
                "value": example["value"],
                "reason": kind.reason,
                "remedy": kind.remedy,
            }
        )
    return faults


def render_text(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    counts, cold = report["counts"], report["cold"]
    lines = [
        f"{report['partner']}: {counts['items']:,} items, {counts['users']:,} users, {counts['events']:,} events "
        f"({report['density']:.3%} of all pairs); catalogue {report['catalogue']}",
        f"  events per user   median {report['per_user']['median']:g}, p90 {report['per_user']['p90']:g}, "
        f"max {report['per_user']['max']:,}",
        f"  events per item   median {report['per_item']['median']:g}, p90 {report['per_item']['p90']:g}, "
        f"max {report['per_item']['max']:,}",
        f"  text length       median {report['texts']['median']:g} characters, max {report['texts']['max']:,}",
        "  languages         " + ", ".join(f"{row['language']} {row['share']:.1%}" for row in report["languages"][:8]),
        f"  cold              {cold['items_without_events']['share']:.1%} of items without an event, "
        f"{cold['users_with_at_most_two_events']['share']:.1%} of users with at most two",
    ]
    time = report["time"]
    lines.append(
        f"  time              {time['from'][:10]} to {time['to'][:10]} ({time['days']:,.0f} days)"
        if time
        else "  time              none: evaluation will hold out events of each user"
    )
    for attribute in report["groups"]:
        groups = ", ".join(
            f"{group['value']} {group['users']:,}" + (" (small)" if group["small"] else "")
            for group in attribute["groups"][:_MOST_GROUPS]
        )
        more = f", … {attribute['distinct']} in all" if attribute["distinct"] > _MOST_GROUPS else ""
        mark = " (sensitive)" if attribute["sensitive"] else ""
        lines.append(f"  {attribute['attribute']}{mark}: {groups}{more}; missing {attribute['missing']:,}")
    for table, count in report["rows"].items():
        left_out = [f"{count[key]:,} {key}" for key in ("quarantined", "withdrawn", "forgotten") if count[key]]
        if left_out:
            lines.append(f"  {table}: of {count['read']:,} rows read {count['kept']:,} kept, {', '.join(left_out)}")
    if not report["faults"]:
        lines.append("  no faults")
    for fault in report["faults"]:
        place = f"{fault['file']} row {fault['first_row']}"
        place += f", column {fault['column']}" if fault["column"] else ""
        value = f", value {fault['value']!r}" if fault["value"] is not None else ""
        kept = "kept with a remark" if fault["kept"] else "quarantined"
        rows = f"{fault['rows']:,} row" + ("" if fault["rows"] == 1 else "s")
        lines.append(f"  {fault['code']} {fault['name']}: {rows} {kept}; first: {place}{value}")
        lines.append(f"       {fault['reason']} {fault['remedy']}")
    return "\n".join(lines)


def render_html(report: dict[str, Any]) -> str:
    """The report as one HTML file with histograms; opens offline."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["percent"] = lambda share: f"{share:.1%}"
    return environment.get_template("check.html.j2").render(report=report, small_group=SMALL_GROUP)
