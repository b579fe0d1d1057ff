"""A federation of real processes over many rounds while something is killed at random all the time.

Four book shops of the demonstration, one SuperLink, one SuperNode each. Every half minute or so one process ends
without warning (SIGKILL): a partner's node, its worker, a ClientApp at work, the server's app, the SuperLink, or the
command that runs it all. A node is started again as a service manager would; when the command has ended it is given
again. What was done is read from the ledger, which the server alone writes: at the end every round must be on it
exactly once, in order, in one run; the ledger and the release must verify, and no process may be left.

``python bench/soak.py --rounds 200 --out soak [--secure]``; ends with status 1 if anything of that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from koinon.privacy.ledger.kinds import Kind
from koinon.privacy.signing import Signer
from koinon.server import FederationConfig, read_release
from koinon.server.record import KEY_FILE, LEDGER_FILE
from koinon.server.state.ledger_book import LedgerBook
from koinon.server.state.store import open_store
from koinon.studies.demo.partners import prepare_partners

SHOPS = ("books-fr", "books-es", "books-en-au", "books-en-uk")
VICTIMS = {
    "node": (3, "flower-supernode"),
    "worker": (3, "koinon.clients.worker"),
    "client app": (3, "flwr-clientapp"),
    "server app": (1, "flwr-serverapp"),
    "superlink": (1, "flower-superlink"),
    "command": (1, "federation run"),
}
"""How often each is drawn, and a word of its command: what ends the whole run is drawn less often."""
TOKEN = "KOINON_SOAK"
FOLLOW_SECONDS = 0.3
PATIENCE_SECONDS = 900.0
"""Without a finished round for so long, the soak has failed."""


def carriers(token: str) -> list[psutil.Process]:
    """Everything alive that this soak has started, directly or not."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TOKEN) == token and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


class Soak:
    """One soak: the command, what is killed, and what came of it.

    Parameters
    ----------
    file
        The federation's file.
    out
        Folder of the soak; the federation's output is ``federation`` in it.
    every
        Seconds between two kills, on average.
    seed
        Decides who is killed when.
    """

    def __init__(self, file: Path, out: Path, every: float, seed: int) -> None:
        self.file, self.out, self.every = file, out, every
        self.random = random.Random(seed)
        self.token = secrets.token_hex(8)
        self.environment = {**os.environ, TOKEN: self.token}
        self.killed: Counter[str] = Counter()
        self.ended: Counter[int] = Counter()
        self.log = (out / "soak.jsonl").open("a", encoding="utf-8")

    def say(self, **event: object) -> None:
        """Write one line to the soak's log, and show it."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **event})
        self.log.write(line + "\n")
        self.log.flush()
        print(line, flush=True)

    def start(self) -> subprocess.Popen[bytes]:
        """Give the command, once more."""
        command = [sys.executable, "-m", "koinon.cli", "federation", "run", "--federation", str(self.file)]
        command += ["--processes", "--json", "--out", str(self.out / "federation")]
        with (self.out / "command.log").open("ab") as output:
            return subprocess.Popen(command, env=self.environment, stdout=output, stderr=output, start_new_session=True)

    def run(self) -> None:
        """Kill and start again until the federation has finished."""
        running, next_kill = self.start(), time.monotonic() + self.every
        last, since = 0, time.monotonic()
        while (status := running.poll()) != 0:
            if status is not None:
                self.ended[status] += 1
                self.say(event="command ended", status=status, rounds=self.done())
                running = self.start()
            if time.monotonic() > next_kill:
                self.kill(running)
                next_kill = time.monotonic() + self.random.uniform(0.5, 1.5) * self.every
                if (done := self.done()) > last:
                    last, since = done, time.monotonic()
                elif time.monotonic() - since > PATIENCE_SECONDS:
                    raise SystemExit(f"no round in {PATIENCE_SECONDS:.0f} s")
            time.sleep(FOLLOW_SECONDS)
        self.say(event="finished", rounds=self.done())

    def kill(self, running: subprocess.Popen[bytes]) -> None:
        """End one process of a kind drawn at random."""
        kind = self.random.choices(list(VICTIMS), [weight for weight, _ in VICTIMS.values()])[0]
        found = []
        for process in carriers(self.token):
            with suppress(psutil.Error):
                if VICTIMS[kind][1] in " ".join(process.cmdline()) and (
                    kind != "command" or process.pid == running.pid
                ):
                    found.append(process)
        if not found:
            return
        victim = self.random.choice(found)
        try:
            again = victim.cmdline(), victim.environ(), victim.cwd()
            victim.kill()
        except psutil.Error:
            return
        self.killed[kind] += 1
        self.say(event="killed", kind=kind, pid=victim.pid, rounds=self.done())
        if kind == "node":
            command, environment, folder = again
            with (self.out / "nodes.log").open("ab") as log:
                subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)

    def rounds(self) -> list[dict[str, Any]]:
        """What the ledger says of finished rounds, in its order."""
        folder = self.out / "federation"
        if not (folder / LEDGER_FILE).is_file() or not (folder / KEY_FILE).is_file():
            return []
        book = LedgerBook(open_store(folder / LEDGER_FILE), Signer.open(folder / KEY_FILE))
        try:
            return [dict(entry.body) for entry in book.entries(kind=Kind.ROUND_FINISHED)]
        finally:
            book.store.close()

    def done(self) -> int:
        """How many rounds are on record."""
        return len(self.rounds())

    def close(self) -> int:
        """How many processes are left; they are ended."""
        left = carriers(self.token)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        return len(left)


def judge(soak: Soak, rounds: int) -> dict[str, object]:
    """What is wrong after the end, by name; all of it false or 0 where all is well."""
    found = soak.rounds()
    numbers = [body["round"] for body in found]
    folder = soak.out / "federation"
    ledger = subprocess.run(
        [sys.executable, "-m", "koinon.cli", "ledger", "verify", str(folder)], capture_output=True, text=True
    )
    print((ledger.stdout or ledger.stderr).strip())
    releases = sorted((folder / "releases").iterdir())
    return {
        "rounds lost": len(set(range(1, rounds + 1)) - set(numbers)),
        "rounds on record twice": len(numbers) - len(set(numbers)),
        "out of order": numbers != sorted(numbers),
        "runs beside the first": len({body["run"] for body in found}) - 1,
        "ledger does not verify": bool(ledger.returncode),
        "releases beside the one": len(releases) - 1,
        # raises where the release's bytes are not those of its signed manifest
        "release is of another round": read_release(releases[-1]).number != rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two kills, on average")
    parser.add_argument("--deadline", type=float, default=30.0, help="seconds after which a partner is given up")
    parser.add_argument("--secure", action="store_true", help="secure sums instead of plain ones")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("soak"), help="its federation is begun anew")
    asked = parser.parse_args()
    out = asked.out.resolve()
    shutil.rmtree(out / "federation", ignore_errors=True)
    folders, split = prepare_partners(out / "partners", full=False, seed=asked.seed)
    config = FederationConfig.model_validate(
        {
            "name": "soak",
            "partners": {name: folders[name] for name in SHOPS},
            "learners": [{"name": "federated_popularity", "settings": {"rounds": asked.rounds, "memory": 0.5}}],
            "encoder": "none",
            "split": split,
            "aggregation": "secure" if asked.secure else "plain",
            "minimum_participants": 3 if asked.secure else 2,
            "deadlines": {"join": 90, "catalogue": asked.deadline, "contribute": asked.deadline, "adopt": 900},
        }
    )
    file = out / "federation.toml"
    file.write_text(config.to_toml(), encoding="utf-8")
    soak = Soak(file, out, asked.every, asked.seed)
    # whatever ends the soak ends what it has started
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    try:
        soak.run()
        judged = judge(soak, asked.rounds)
    finally:
        left = soak.close()
    judged["processes left"] = left
    minutes = (time.monotonic() - began) / 60
    left_out = Counter(code for body in soak.rounds() for code in body["left_out"])
    print(f"{asked.rounds} rounds in {minutes:.0f} minutes, {'secure' if asked.secure else 'plain'} sums")
    print(f"killed: {', '.join(f'{count} x {kind}' for kind, count in soak.killed.most_common()) or 'nobody'}")
    print(f"the command was given {1 + soak.ended.total()} times; its statuses: {dict(soak.ended)}")
    print(
        f"rounds with somebody left out: {', '.join(f'{n} x {code}' for code, n in left_out.most_common()) or 'none'}"
    )
    print("; ".join(f"{name}: {value}" for name, value in judged.items()))
    sys.exit(any(judged.values()))


if __name__ == "__main__":
    main()
