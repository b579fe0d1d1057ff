"""The root of the command line, and the one place where errors become words and exit statuses."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click
from typer.core import TyperOption

from koinon.cli.lazy import CommandSpec, LazyGroup
from koinon.errors import KoinonError, ResourceError

__all__ = ["COMMANDS", "main", "root", "run"]

_START = "Start here"
_PARTNER = "For a partner"
_FEDERATION = "For a federation"
_AUDITOR = "For an auditor"
_RESEARCHER = "For a researcher"

COMMANDS: dict[str, CommandSpec] = {
    "demo": CommandSpec(
        "koinon.cli.demo", "Fetch real data, federate ten partners, and write a report on who gains.", _START
    ),
    "recommend": CommandSpec(
        "koinon.cli.recommend", "Recommend for a user, for a stranger's liked titles, or for a wish in words.", _PARTNER
    ),
    "serve": CommandSpec("koinon.cli.serve", "Answer the same questions over HTTP, on this machine.", _PARTNER),
    "partner": CommandSpec(
        "koinon.cli.partner", "Set up a partner's folder, check its data, join a federation, forget a person.", _PARTNER
    ),
    "data": CommandSpec("koinon.cli.data", "List and fetch public data sets; import well-known formats.", _PARTNER),
    "encode": CommandSpec("koinon.cli.encode", "Turn texts into vectors of the semantic space, once.", _PARTNER),
    "train": CommandSpec(
        "koinon.cli.train", "Train a recommender, stop it early on validation, measure it; resumes.", _PARTNER
    ),
    "tune": CommandSpec(
        "koinon.cli.tune", "Choose recommenders' settings on validation, same budget for all.", _PARTNER
    ),
    "space": CommandSpec(
        "koinon.cli.space", "Tune a language model to what goes together in a catalogue (NoteLLM); resumes.", _PARTNER
    ),
    "click": CommandSpec(
        "koinon.cli.click", "Train models of how likely a person likes an item (AUC); with words: CTRL.", _PARTNER
    ),
    "federation": CommandSpec(
        "koinon.cli.federation", "Found a federation, host it, decide who belongs to it, train.", _FEDERATION
    ),
    "ledger": CommandSpec("koinon.cli.ledger", "Verify, show and export a federation's ledger.", _FEDERATION),
    "study": CommandSpec(
        "koinon.cli.study", "Compare every paradigm on the same data with the same questions; resumes.", _RESEARCHER
    ),
    "audit": CommandSpec("koinon.cli.audit", "Plan a fairness audit, run it, check one.", _AUDITOR),
}
"""Every command of ``koinon``, by name."""

_EPILOG = "First steps: `koinon demo`, or with your own files `koinon partner init DIR --items F --events F`."


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"koinon {version('koinon')}")
    ctx.exit()


root = LazyGroup(
    name="koinon",
    specs=COMMANDS,
    help="Federated recommendation across companies, domains and languages over one shared semantic space.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        TyperOption(
            param_decls=["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Print the version and exit.",
        ),
        TyperOption(
            param_decls=["--traceback"],
            is_flag=True,
            expose_value=False,
            help="On an error, show where in the code it arose (may stand anywhere on the line).",
        ),
    ],
)
"""``koinon``: nothing but a name, a help text and lazily imported commands."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; errors are printed to standard error.

    A :class:`~koinon.errors.KoinonError` is printed as ``error [K…] message remedy`` (as JSON when the line holds
    ``--json``) and gives its own exit status; a wrong option 2; Ctrl-C 130; a closed pipe 141; anything unforeseen 1
    with code K099.
    """
    arguments = list(arguments)
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json, traceback = "--json" in options, "--traceback" in options
    if traceback:
        arguments.remove("--traceback")
    try:
        # not root.main(): Click and Typer would answer Ctrl-C and closed pipes in their own ways
        with root.make_context("koinon", arguments) as context:
            root.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as wanted:
        return wanted.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        return _report_usage(error, as_json)
    except (KeyboardInterrupt, click.Abort):
        print("\ninterrupted: nothing half-written; the same command resumes.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _silence_stdout()
        return 141
    except Exception as error:
        if traceback:
            import traceback as tracebacks

            tracebacks.print_exc()
        return _report(_as_koinon_error(error), as_json)


def main() -> None:
    """Entry point of ``koinon``; with ``_KOINON_COMPLETE`` set, what a shell asks for to complete a line."""
    if instruction := os.environ.get("_KOINON_COMPLETE"):
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(root, {}, "koinon", "_KOINON_COMPLETE", instruction))
    sys.exit(run(sys.argv[1:]))


def _report_usage(error: click.ClickException, as_json: bool) -> int:
    if not as_json:
        error.show()
        return error.exit_code
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "koinon"
    _print_json({"code": "K100", "message": error.format_message(), "remedy": f"See `{command} --help`."})
    return error.exit_code


def _report(error: KoinonError, as_json: bool) -> int:
    if as_json:
        _print_json({"code": error.code, "message": error.message, "remedy": error.remedy})
    else:
        from rich.console import Console
        from rich.text import Text

        said = f"{error.message} {error.remedy}".rstrip()
        text = Text.assemble(("error", "bold red"), " ", (f"[{error.code}]", "bold"), f" {said}")
        Console(stderr=True, highlight=False, soft_wrap=True).print(text)
    return error.exit_code


def _print_json(body: dict[str, Any]) -> None:
    print(json.dumps({"error": body}, ensure_ascii=False), file=sys.stderr)


def _as_koinon_error(error: Exception) -> KoinonError:
    if isinstance(error, KoinonError):
        return error
    if isinstance(error, MemoryError):
        return ResourceError("K805", "This machine has not enough memory for that.", "Use smaller caps or more memory.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError("K801", f"The disk is full: {error}.", "Free disk space or choose another folder.")
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("koinon"):
        return ResourceError(
            "K806",
            f"The Python package `{error.name}` is not installed.",
            "Install Koinon with the extra that brings it, e.g. `pip install 'koinon[demo]'`.",
        )
    said = " ".join(str(error).split())
    return KoinonError(
        "K099",
        f"Unexpected {type(error).__name__}: {said or 'no message'}".rstrip(".") + ".",
        "This is a fault of Koinon: run again with --traceback and report what it shows.",
    )


def _silence_stdout() -> None:
    """Point standard output nowhere, so that Python's closing flush does not complain about the closed pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


if __name__ == "__main__":
    main()
