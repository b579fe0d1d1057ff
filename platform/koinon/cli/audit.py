"""``koinon audit``: plan a fairness audit, run it, check somebody else's, hold two against each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from koinon.fairness.plan import AuditPlan
    from koinon.fairness.record import Record
    from koinon.fairness.results import AuditResults, Judged
    from koinon.privacy.ledger import Entry
    from koinon.privacy.ledger.kinds import Kind
    from koinon.server.state import LedgerBook

__all__ = ["app"]

app = typer.Typer(help="Plan a fairness audit, run it, check one.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The audit's folder.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class PageLanguage(StrEnum):
    """Languages of the report."""

    EN = "en"
    DE = "de"


Language = Annotated[
    list[PageLanguage] | None,
    typer.Option("--language", help="Of the page; may be repeated. Default: the plan's (`[report] language`)."),
]
Pdf = Annotated[bool, typer.Option("--pdf", help="Also as PDF; needs the extra `pdf`.")]


class FailOn(StrEnum):
    """From which verdict on a pipeline stops."""

    FAIL = "fail"
    CONCERN = "concern"
    INSUFFICIENT = "insufficient"


@app.callback()
def _group() -> None:
    """Plan a fairness audit, run it, check one."""


@app.command(
    epilog="Example: `koinon audit plan films --dataset ml-100k --like-from 4`, read films/plan.toml, `koinon audit "
    "run films`."
)
def plan(
    folder: Folder,
    dataset: Annotated[list[str] | None, typer.Option("--dataset", help="A public data set; may be repeated.")] = None,
    partner: Annotated[
        list[Path] | None, typer.Option("--partner", help="A partner's folder; may be repeated.", file_okay=False)
    ] = None,
    federated: Annotated[
        Path | None,
        typer.Option(
            help="Instead: a federation's file, or a created federation's folder; its partners answer with sums, no "
            "rows leave them."
        ),
    ] = None,
    released: Annotated[
        Path | None,
        typer.Option(help="With a file: output folder of its run, whose releases are audited.", file_okay=False),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", help="With a folder: an attribute and the values counted, age=young,old. Repeatable."),
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="With --federated: privacy budget of the audit, charged to the partners.")
    ] = None,
    delta: Annotated[float, typer.Option(help="With --epsilon.")] = 1e-6,
    people: Annotated[int, typer.Option(help="With --epsilon: more people than any partner has.")] = 100_000,
    name: Annotated[str, typer.Option(help="Of the audit; default: the folder's.")] = "",
    recommender: Annotated[str, typer.Option("--recommender", "-r", help="Fitted for the audit.")] = "ease",
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Its settings, a TOML file.")] = None,
    kept: Annotated[
        str | None, typer.Option(help="Instead: a kept recommender in each partner's folder, e.g. models/local.")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", help="May be repeated; default: all that are declared.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="The space of a recommender that reads texts; default: the packaged one.")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest accepted difference of NDCG between two groups.")] = 0.03,
    protocol: Annotated[
        Literal["holdout", "time", "leave-last-out"], typer.Option(help="How events are divided.")
    ] = "holdout",
    basis: Annotated[str, typer.Option(help="Ground for using sensitive attributes without a consent column.")] = "",
    like_from: Annotated[float | None, typer.Option(help="Rating from which an item counts as liked.")] = None,
    mitigate: Annotated[
        bool, typer.Option("--mitigate", help="Also weigh what mending a question that does not pass would cost.")
    ] = False,
    federation: Annotated[
        Path | None, typer.Option(help="A study's output: adds what federating brought each partner.", file_okay=False)
    ] = None,
    language: Annotated[PageLanguage, typer.Option(help="Of the question and the report.")] = PageLanguage.EN,
    record: Annotated[
        Path | None, typer.Option(help="A federation's folder: the plan is entered in its ledger.", file_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write an audit plan for data at hand, and enter it, before anything is computed.

    It proposes: read it, change it. Whatever it says when the audit is run is entered once more, before any result.
    """
    import os
    import tomllib

    from koinon.fairness.conduct import enter
    from koinon.fairness.drafting import draft, write_plan
    from koinon.fairness.plan import PrivacyPlan
    from koinon.fairness.subject import DATASET

    def relative(path: Path) -> str:
        return os.path.relpath(path.resolve(), folder.resolve())

    sources = [*(DATASET + one for one in dataset or ()), *(relative(one) for one in partner or ())]
    hosted = federated is not None and federated.is_dir()
    if (federated is None or hosted) != (released is None) or (federated is None) != bool(sources):
        raise typer.BadParameter(
            "give --dataset NAME, --partner DIR, --federated FILE with --released DIR, or --federated DIR"
        )
    chosen: dict[str, Any] = {
        "tolerance": tolerance,
        "basis": basis,
        "record": relative(record) if record else None,
        "language": language.value,
    }
    title = name or folder.resolve().name
    if federated is not None:
        budget = None if epsilon is None else PrivacyPlan(epsilon=epsilon, delta=delta, people=people)
        chosen |= {"kept": kept or "deployed", "privacy": budget}
        drafted = _of_federation(folder, title, federated, released, attribute or (), group or (), chosen)
    else:
        drafted = draft(
            title,
            sources,
            folder,
            attributes=attribute or (),
            recommender=recommender,
            settings=tomllib.loads(config.read_text(encoding="utf-8")) if config else {},
            kept=kept,
            encoder=encoder,
            protocol=protocol,
            like_from=like_from,
            mitigate=mitigate,
            federation=relative(federation) if federation else None,
            **chosen,
        )
    path = write_plan(folder, drafted)
    with _record(folder, drafted.record) as (book, kind):
        _, sha256, recorded = enter(folder, book, kind)
    if as_json:
        typer.echo(json.dumps({"plan": str(path), "sha256": sha256, **recorded.model_dump()}, indent=2))
        return
    typer.echo(
        f"{path}: {len(drafted.primary)} primary questions over {len(drafted.groups)} groups. Read it, change it."
    )
    typer.echo(f"entered: {recorded.time}, entry {recorded.sequence} of a {kind} record, plan {sha256[:16]}…")


def _of_federation(
    folder: Path,
    title: str,
    federation: Path,
    released: Path | None,
    attributes: Sequence[str],
    groups: Sequence[str],
    chosen: dict[str, Any],
) -> AuditPlan:
    """A plan for a federation's file and what its run has released, or for a created federation."""
    if released is not None:
        from koinon.server.auditing import plan_federated

        return plan_federated(folder, title, federation, released, attributes=attributes, **chosen)
    from koinon.server.auditing_members import plan_hosted

    named = [one.partition("=") for one in groups]
    if wrong := [name for name, _, values in named if len(values.split(",")) < 2]:
        raise typer.BadParameter(f"--group {wrong[0]}: name two values at least, as in age=young,old")
    return plan_hosted(folder, title, federation, groups={name: said.split(",") for name, _, said in named}, **chosen)


@app.command(epilog="Example: `koinon audit run audit --fail-on concern` in a release pipeline.")
def run(
    folder: Folder,
    fail_on: Annotated[
        FailOn | None, typer.Option("--fail-on", help="End with status 6 at this verdict or a worse one.")
    ] = None,
    processes: Annotated[
        bool,
        typer.Option(
            "--processes/--simulation",
            help="Of a federation: one SuperNode process per partner, or Flower's simulation.",
        ),
    ] = False,
    language: Language = None,
    pdf: Pdf = False,
    as_json: AsJson = False,
) -> None:
    """Enter the folder's plan, compute what it says, and write results.json and report.html beside it.

    Where the plan is of a federation, its partners are asked once; what they answered stays in totals.json.
    """
    from koinon.errors import EvaluationError
    from koinon.fairness.conduct import conduct
    from koinon.fairness.plan import PLAN_FILE, AuditPlan
    from koinon.fairness.report import require_pdf

    planned, _ = AuditPlan.read(folder / PLAN_FILE)
    if pdf:
        require_pdf()

    def say(step: str) -> None:
        if not as_json:
            typer.echo(f"{step} …", err=True)

    with _record(folder, planned.record) as (book, kind):
        if planned.federated is None:
            results = conduct(folder, book, kind, say=say)
        else:
            import signal

            from koinon.server.auditing import conduct_federated

            # a pipeline's stop is as good as Ctrl-C: everything started is ended on the way out
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            mode: Literal["simulation", "processes"] = "processes" if processes else "simulation"
            results = conduct_federated(folder, book, kind, mode=mode, say=say)
    written = _pages(folder, results, language, pdf=pdf)
    if as_json:
        typer.echo(results.to_json(), nl=False)
    else:
        _summary(results)
        typer.echo(f"{results.seconds:.0f} s. Report: {', '.join(map(str, written))}")
    levels = {FailOn.FAIL: 1, FailOn.CONCERN: 2, FailOn.INSUFFICIENT: 3}
    if fail_on is not None and _severity(results.verdict) < levels[fail_on]:
        raise EvaluationError(
            "K533", f"The audit {results.name!r} ends with: {results.verdict}.", "The report says which groups."
        )


@app.command(epilog="Example: `koinon audit report films --language de --pdf`.")
def report(folder: Folder, language: Language = None, pdf: Pdf = False, as_json: AsJson = False) -> None:
    """Write the page once more from results.json, in another language or as PDF. Nothing is computed or entered."""
    from koinon.fairness.report import RESULTS_FILE
    from koinon.fairness.results import AuditResults

    written = _pages(folder, AuditResults.read(folder / RESULTS_FILE), language, pdf=pdf)
    if as_json:
        typer.echo(json.dumps([str(path) for path in written], indent=2))
    else:
        typer.echo("\n".join(map(str, written)))


def _pages(folder: Path, results: AuditResults, languages: list[PageLanguage] | None, *, pdf: bool) -> list[Path]:
    """Write the page in the languages asked for; without any, in the plan's."""
    from koinon.fairness.report import write_page

    if not languages:
        return write_page(folder, results, pdf=pdf)
    every: list[Literal["en", "de"]] = ["de" if one is PageLanguage.DE else "en" for one in dict.fromkeys(languages)]
    return [path for one in every for path in write_page(folder, results, one, pdf=pdf)]


@app.command(epilog="Example: `koinon audit propose whole`, then every member's `koinon partner accept shop`.")
def propose(folder: Folder) -> None:
    """Offer an audit to the members of a created federation, in place of its policy, until it is withdrawn."""
    from koinon.server.auditing_members import propose_audit

    sha256 = propose_audit(folder)
    typer.echo(f"On offer, and on record: policy {sha256[:16]}… asks this audit's question and nothing else.")
    typer.echo("Members read it with `koinon partner accept DIR` and start their nodes again.")


@app.command(epilog="Example: `koinon audit withdraw whole`.")
def withdraw(folder: Folder) -> None:
    """Give a created federation's members the policy back that they had before an audit was on offer."""
    from koinon.server.auditing_members import withdraw_audit

    typer.echo(f"The policy is {withdraw_audit(folder)[:16]}… again; members accept it once more.")


@app.command()
def verify(
    folder: Folder,
    recompute: Annotated[bool, typer.Option("--recompute", help="Run the audit again and compare figures.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check an audit: record, plan, hashes, page, verdicts; and say what could not be checked."""
    from koinon.errors import EvaluationError, KoinonError
    from koinon.fairness.plan import PLAN_FILE, AuditPlan
    from koinon.fairness.report import RESULTS_FILE
    from koinon.fairness.results import AuditResults
    from koinon.fairness.verifying import verify_audit

    try:
        where = AuditResults.read(folder / RESULTS_FILE).plan.get("record")
    except KoinonError:
        where = AuditPlan.read(folder / PLAN_FILE)[0].record
    with _record(folder, None if where is None else str(where)) as (book, _):
        checks = verify_audit(folder, book, recompute=recompute)
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2, ensure_ascii=False))
    else:
        words = {True: "yes", False: "NO", None: "not checked"}
        for check in checks:
            typer.echo(f"{words[check.held]:<12} {check.what}: {check.said}")
    wrong = [check for check in checks if check.held is False]
    if wrong:
        raise EvaluationError(
            "K529", f"This audit does not hold: {wrong[0].what}: {wrong[0].said}", "Ask whoever gave it to you."
        )


@app.command(epilog="Example: `koinon audit diff release-6 release-7 --json`.")
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="An audit's folder.", file_okay=False)],
    after: Annotated[Path, typer.Argument(metavar="B", help="A later one's.", file_okay=False)],
    as_json: AsJson = False,
) -> None:
    """Show what changed between two audits, e.g. of two releases: plan, verdicts, groups, gains."""
    from koinon.fairness.differing import differ
    from koinon.fairness.report import RESULTS_FILE
    from koinon.fairness.results import AuditResults

    found = differ(*(AuditResults.read(folder / RESULTS_FILE) for folder in (before, after)))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        from koinon.cli.audit_diff import show

        show(found)


@contextmanager
def _record(folder: Path, federation: str | None) -> Iterator[tuple[Record, Literal["local", "federation"]]]:
    """The ledger that the audit is entered in: a federation's, or the one beside the plan."""
    if federation is None:
        from koinon.fairness.record import LocalRecord

        yield LocalRecord(folder), "local"
        return
    from koinon.server.place import Place

    with Place.find(folder / federation).books() as (book, _):
        yield _FederationRecord(book), "federation"


class _FederationRecord:
    """A federation's ledger as a record of audits."""

    def __init__(self, book: LedgerBook) -> None:
        self._book = book

    def entries(self) -> list[Entry]:
        """Return every entry; K781 where the ledger is not whole."""
        from koinon.errors import FederationError
        from koinon.privacy.ledger import verify as verified

        entries = self._book.entries()
        findings = verified(entries, self._book.signer.verifier)
        if not findings.whole:
            raise FederationError(
                "K781", f"The ledger is not whole. {findings.faults[0].message}", "`koinon ledger verify` says more."
            )
        return entries

    def append(self, kind: Kind, subject: str, **body: Any) -> Entry:
        """Enter something."""
        return self._book.append(kind, subject, **body)


def _severity(verdict: str) -> int:
    from koinon.fairness.verdicts import VERDICTS

    return [str(one) for one in VERDICTS].index(verdict)


def _summary(results: AuditResults) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{results.name}: {results.verdict}; {results.people:,} people", box=None)
    for column in ("verdict", "question", "over", "gap", "interval", "tolerance", "p"):
        table.add_column(column, justify="left" if column in {"verdict", "question", "over"} else "right")
    both: list[tuple[Judged, str, str, float | None]] = [
        *((c, f"{c.metric}@{results.plan['k']}", c.group, c.gap) for c in results.comparisons),
        *((p, f"attention by {p.by}", p.source, p.deviation) for p in results.providers),
    ]
    for one, question, over, gap in both:
        if one.verdict is not None:
            numbers = (gap, one.lo, one.hi, one.tolerance, one.p_adjusted)
            gap_, lo, hi, tolerance, p = ("–" if n is None else f"{n:.3f}" for n in numbers)
            table.add_row(one.verdict, question, over, gap_, f"{lo} to {hi}", tolerance, p)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    console.print(table)
