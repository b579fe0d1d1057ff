"""Run one federation in a network namespace of its own, with every packet in it written down.

``unshare -n python -m tests.end_to_end.wiretap CONFIG.json OUT PACKETS RECORD MODULES``. The namespace holds a loopback
interface and nothing else, so what is written down is all that any process of the federation has sent anywhere.
"""

from __future__ import annotations

import os
import pickle
import re
import socket
import struct
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from koinon.server import FederationConfig, run_federation, sessions

ETH_P_ALL = 3
SOL_PACKET, PACKET_STATISTICS = 263, 6
RECEIVE_BUFFER = 256 << 20
REQUEST = re.compile(rb"(POST|GET|PUT|DELETE|HEAD|OPTIONS|PATCH|CONNECT) (\S+) HTTP/1\.[01]\r\n")

Flow = tuple[int, int]


class Tap(threading.Thread):
    """Writes down what leaves on the loopback interface: length, then the packet."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.file = path.open("wb")
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, RECEIVE_BUFFER)  # SO_RCVBUFFORCE
        self.socket.bind(("lo", 0))
        self.socket.settimeout(0.3)

    def run(self) -> None:
        while True:
            try:
                packet, about = self.socket.recvfrom(1 << 18)
            except TimeoutError:
                if self.over.is_set():
                    return
                continue
            if about[2] == socket.PACKET_OUTGOING:  # on loopback each one is seen twice
                self.file.write(struct.pack("<I", len(packet)) + packet)

    def end(self) -> int:
        """Stop; how many packets were missed."""
        self.over.set()
        self.join()
        self.file.close()
        _, dropped = struct.unpack("<II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        return int(dropped)


@dataclass(frozen=True)
class Asked:
    """One HTTP request."""

    path: str
    headers: bytes
    body: bytes


def packets(path: Path) -> Iterator[bytes]:
    """Packets as they were written down."""
    content = path.read_bytes()
    at = 0
    while at < len(content):
        (length,) = struct.unpack_from("<I", content, at)
        yield content[at + 4 : at + 4 + length]
        at += 4 + length


def streams(path: Path) -> tuple[dict[Flow, bytes], list[bytes]]:
    """What each TCP connection carried in each direction (by source and destination port), and all else."""
    pieces: dict[Flow, dict[int, bytes]] = defaultdict(dict)
    first: dict[Flow, int] = {}
    other = []
    for packet in packets(path):
        if packet[12:14] != b"\x08\x00" or packet[23] != socket.IPPROTO_TCP:
            other.append(packet)
            continue
        tcp = packet[14 + (packet[14] & 15) * 4 : 14 + struct.unpack_from("!H", packet, 16)[0]]
        source, target, sequence = struct.unpack_from("!HHI", tcp)
        said = tcp[(tcp[12] >> 4) * 4 :]
        flow = source, target
        if tcp[13] & 2:  # SYN
            first[flow] = sequence + 1
        elif said:
            assert flow in first, "a connection from before the tap"
            pieces[flow][(sequence - first[flow]) & 0xFFFFFFFF] = said
    return {flow: _joined(parts) for flow, parts in pieces.items()}, other


def _joined(parts: Mapping[int, bytes]) -> bytes:
    whole = bytearray()
    for at, said in sorted(parts.items()):
        assert at <= len(whole), "a hole in a connection"
        whole += said[len(whole) - at :]
    return bytes(whole)


def requests(stream: bytes) -> list[Asked]:
    """The HTTP requests of one connection, one after the other; every byte of it belongs to one of them."""
    found = []
    at = 0
    while at < len(stream):
        line = REQUEST.match(stream, at)
        assert line, stream[at : at + 80]
        end = stream.index(b"\r\n\r\n", at) + 4
        headers = stream[line.end() : end].lower()
        length = re.search(rb"content-length: (\d+)", headers)
        assert b"transfer-encoding" not in headers
        size = int(length.group(1)) if length else 0
        found.append(Asked(line.group(2).decode(), headers, stream[end : end + size]))
        at = end + size
    return found


def main(config: Path, out: Path, written: Path, record: Path, modules: Path) -> None:
    """Run the federation, tapped."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    sessions.THIN_APP = sessions.THIN_APP.replace("koinon.server.app:", "koinon_test_recorder:")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(modules), os.environ.get("PYTHONPATH", "")]))
    os.environ["KOINON_TEST_RECORD"] = str(record)
    tap = Tap(written)
    tap.start()
    run_federation(FederationConfig.model_validate_json(config.read_text()), out, "processes")
    assert tap.end() == 0, "packets were missed"


def recorded(record: Path) -> list[object]:
    """Messages that the recorder has written down."""
    return [pickle.loads(path.read_bytes()) for path in sorted(record.iterdir())]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
