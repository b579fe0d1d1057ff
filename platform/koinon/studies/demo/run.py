"""The whole story in one go: fetch, write partner folders, encode, federate, measure, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from koinon.config import Config, write_atomically
from koinon.data import SplitConfig, Vault
from koinon.server import FederationConfig, FederationResult, LearnerConfig, run_federation
from koinon.space import DEFAULT_ENCODER, open_space
from koinon.studies.demo import measure
from koinon.studies.demo.kept import Kept
from koinon.studies.demo.partners import Say, caps, prepare_partners
from koinon.studies.demo.samples import TYPED, sample_lists
from koinon.studies.pooled import evaluate_pooled
from koinon.studies.report import DemoResults, Results, build_results, map_space, write_report
from koinon.studies.report.results import Federation

__all__ = ["DemoConfig", "run_demo"]

ARMS = ("local", "local_space", "federated_gram", "federated_adapters", "federated")


class DemoConfig(Config):
    """What the demonstration does; its defaults are the README's."""

    full: bool = False
    """Lift the caps on items and users."""
    mode: Literal["simulation", "processes"] = "simulation"
    """Flower's simulation on Ray, or one SuperLink and one SuperNode process per partner."""
    seed: int = Field(default=7, ge=0)


def run_demo(
    out: Path,
    config: DemoConfig | None = None,
    *,
    fresh: bool = False,
    command: str = "koinon demo",
    say: Say = lambda _: None,
    on_event: Callable[[Mapping[str, Any]], None] = lambda _: None,
    on_encoded: Callable[[int, int], None] = lambda _done, _total: None,
) -> Results:
    """Run the demonstration and write ``results.json`` and ``report.html`` into ``out``.

    Whatever is already there and still fits (data, vectors, finished rounds, tuned local models) is used again.

    Parameters
    ----------
    out
        Output folder; ``partners/<name>`` are ten partners' own folders, ``federation/`` is the server's.
    config
        What to do.
    fresh
        Federate and pool anew, whatever an earlier run has left.
    command
        The command line, for the report.
    say
        Told each step in one line.
    on_event
        Told the federation's progress, see :mod:`koinon.server.progress`.
    on_encoded
        Told how many of the texts not yet known are encoded.

    Raises
    ------
    KoinonError
        Of any family; nothing half-written stays, and the next call resumes.
    """
    config = config or DemoConfig()
    timings: dict[str, float] = {}

    with _timed(timings, "data", say, "Fetching public data and writing ten partners' folders"):
        folders, split_config = prepare_partners(out / "partners", full=config.full, seed=config.seed, say=say)
        splits = measure.read_splits(folders, split_config)
    with _timed(timings, "encode", say, "Encoding item texts"):
        space = open_space(DEFAULT_ENCODER)
        for split in splits.values():
            space.encode(split.train.texts, progress=on_encoded)
        space.encode(TYPED)
        say(f"{space.encoded_texts:,} texts encoded, the others were known already")
    kept = Kept(
        out / "kept",
        {
            "config": config.model_dump(),
            "split": split_config.model_dump(),
            "vaults": {name: Vault(folder).fingerprint() for name, folder in folders.items()},
            "space": space.fingerprint,
        },
    )
    with _timed(timings, "federate", say, f"Federating ({config.mode})"):
        federation = _federation(config, folders, split_config)
        _write_federation_file(out / "federation.toml", federation)
        whole = all((folder / "models" / "deployed.json").is_file() for folder in folders.values())
        result = kept.federation(out / "federation") if whole and not fresh else None
        if result is None:
            result = run_federation(federation, out / "federation", config.mode, on_event)
            kept.keep_federation(result)
        else:
            say(f"kept from the last run, which took {result.seconds:.0f} s; --fresh federates anew")
    with _timed(timings, "measure", say, "Measuring every arm on the test set"):
        elsewhere = measure.known_elsewhere(splits)
        arms, chance = {}, {}
        for name, folder in folders.items():
            arms[name], chance[name] = measure.measure_arms(folder, splits[name], space, elsewhere[name])
            say(f"{name}: " + ", ".join(f"{arm} {found.mean():.4f}" for arm, found in arms[name].items()))
    with _timed(timings, "pooled", say, "Tuning the pooled ceiling on the joined raw data"):
        known = {name: None if fresh else kept.evaluation(f"pooled-{name}") for name in folders}
        if all(known.values()):
            say("kept from the last run")
        else:
            settings = {name: measure.own_settings(folder, splits[name], space) for name, folder in folders.items()}
            ceilings = evaluate_pooled(
                splits,
                space,
                known_elsewhere=elsewhere,
                starts={name: own for name, own in settings.items() if own is not None},
                seed=config.seed,
                on_partner=lambda name, _: say(f"{name}: pooled"),
            )
            for name, (pooled_ease, validation) in ceilings.items():
                known[name] = measure.ceiling(folders[name], arms[name], pooled_ease, validation)
        for name, pooled in known.items():
            assert pooled is not None
            kept.keep_evaluation(f"pooled-{name}", pooled)
            arms[name]["pooled"] = pooled
    with _timed(timings, "report", say, "Writing the report"):
        partners = {
            name: measure.partner_result(name, folder, splits[name], arms[name], chance[name], elsewhere[name])
            for name, folder in folders.items()
        }
        for name, found in partners.items():
            measure.write_per_user(out / "per_user" / f"{name}.parquet", found.arms)
        results = build_results(
            DemoResults(
                partners=partners,
                federation=_how_it_ran(result, federation, folders),
                seed=config.seed,
                command=command,
                curves=measure.curves(result.rounds, result.adopted),
                settings={**config.model_dump(), "encoder": DEFAULT_ENCODER, "split": split_config.model_dump()},
                caps=caps(config.full),
                timings=timings,
            )
        )
        write_report(
            out,
            results,
            space_map=map_space({name: split.train for name, split in splits.items()}, space, seed=config.seed),
            samples=sample_lists(folders, splits, seed=config.seed),
        )
    return results


def _federation(config: DemoConfig, folders: Mapping[str, Path], split: SplitConfig) -> FederationConfig:
    return FederationConfig(
        name="demo",
        partners={name: folder.resolve() for name, folder in folders.items()},
        encoder=DEFAULT_ENCODER,
        split=split,
        learners=tuple(LearnerConfig(name=name) for name in measure.LEARNERS),
        metrics=("ndcg@10", "work_seconds", *(f"ndcg@10/{arm}" for arm in ARMS)),
        aggregation="secure",
        minimum_participants=3,
        seed=config.seed,
    )


def _write_federation_file(path: Path, federation: FederationConfig) -> None:
    """Leave the file that `koinon federation run` takes, with folders relative to it."""
    here = path.resolve().parent
    relative = {name: folder.relative_to(here) for name, folder in federation.partners.items()}
    write_atomically(path, federation.model_copy(update={"partners": relative}).to_toml())


def _how_it_ran(result: FederationResult, federation: FederationConfig, folders: Mapping[str, Path]) -> Federation:
    left = {name: measure.egress(folder) for name, folder in folders.items()}
    overheads = [event["overhead_seconds"] for event in result.rounds if event.get("overhead_seconds") is not None]
    rounds: dict[str, int] = {}
    vanished: dict[str, list[str]] = {}
    for event in result.rounds:
        rounds[event["learner"]] = max(rounds.get(event["learner"], 0), event["round"])
        for partner, code in event["left_out"].items():
            vanished.setdefault(partner, []).append(f"{event['learner']} {event['round']} ({code})")
    return Federation(
        mode=result.mode,
        rounds=rounds,
        bytes=sum(one.bytes for one in left.values()),
        overhead_seconds=sum(overheads) if overheads else None,
        seconds=result.seconds,
        unprotected_sums=federation.aggregation != "secure",
        egress=left,
        vanished=vanished,
    )


@contextmanager
def _timed(timings: dict[str, float], step: str, say: Say, what: str) -> Iterator[None]:
    say(what)
    began = time.monotonic()
    yield
    timings[step] = time.monotonic() - began
