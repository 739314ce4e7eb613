"""`clipscan serve`: right rows for every filter, pictures encoded anew, decisions kept, strangers refused."""

from __future__ import annotations

import html
import http.client
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import pyarrow.parquet as pq
import pytest
from browser import Opened, chromium
from report_helpers import EVIL, InMemory, a_run, some_samples

from clipscan.errors import DataError, RunError
from clipscan.report.choose import choose_drops
from clipscan.report.serve import Serving, open_server
from clipscan.run import Run

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'clipscan[embed]'")
N = 500


def scored(folder: Path) -> Run:
    """Row i of N has rank i + 1 and the next rows as its neighbours; suspects are the first 40."""
    samples = some_samples(N)
    run = a_run(folder, samples, suspects=40)
    (run / "neighbors").mkdir()
    index = (np.arange(N)[:, None] + np.arange(1, 17)) % N
    np.save(run / "neighbors/index_00000.npy", index.astype(np.int64))
    np.save(run / "neighbors/distance_00000.npy", np.tile(np.arange(1, 17, dtype=np.float32), (N, 1)))
    return Run(run, InMemory(samples))


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    one = open_server(scored(tmp_path_factory.mktemp("served")))
    thread = threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield one
    one.server.shutdown()
    thread.join()
    one.close()


class Client:
    """Speaks to a server as the page does, or as `headers` say."""

    def __init__(self, serving: Serving) -> None:
        self.port, self.token = serving.server.server_port, serving.server.token

    def ask(
        self, place: str, method: str = "GET", body: bytes = b"", **headers: str
    ) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {"Host": f"127.0.0.1:{self.port}", "X-Clipscan-Token": self.token}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, place, skip_host=True)
        for name, value in given.items():
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def rows(self, start: int = 0, count: int = 1000, **chosen: Any) -> tuple[int, list[dict[str, Any]]]:
        status, _, body = self.ask("/api/rows?" + urlencode({"start": start, "count": count, **chosen}))
        assert status == 200, body
        found = json.loads(body)
        return found["total"], found["rows"]


@pytest.fixture
def client(serving: Serving) -> Client:
    return Client(serving)


def keys(rows: list[dict[str, Any]]) -> list[int]:
    return [int(row["key"].removeprefix("key")) for row in rows]


def test_a_page_of_rows_is_a_slice_of_the_ranking(client: Client) -> None:
    total, rows = client.rows(start=120, count=30)
    assert total == N and keys(rows) == list(range(120, 150))
    assert [row["rank"] for row in rows] == list(range(121, 151))
    assert [row["listed"] for row in client.rows(count=6)[1]] == [True] * 4 + [False] * 2
    assert rows[0]["caption"] == "a flower, number 120" and client.rows(count=1)[1][0]["caption"] == EVIL
    assert client.rows(start=N)[1] == [] and client.rows(count=9999)[0] == N


@pytest.mark.parametrize(
    ("chosen", "passes"),
    [
        ({"text": "NUMBER 21"}, lambda i: str(i).startswith("21")),
        ({"text": "key0007"}, lambda i: i == 7),
        ({"text": "%_.*"}, lambda i: False),
        ({"shard": "00001.tar"}, lambda i: i % 2 == 1),
        ({"shard": "00001.tar", "text": "number 21"}, lambda i: i % 2 == 1 and str(i).startswith("21")),
        ({"low": "2.9"}, lambda i: np.linspace(3.0, 0.9, N)[i] >= 2.9),
        ({"low": "1", "high": "1.1"}, lambda i: 1 <= np.linspace(3.0, 0.9, N)[i] <= 1.1),
        ({"verdict": "copies"}, lambda i: i >= N - 30),
        ({"verdict": "none"}, lambda i: i < N - 30),
        ({"verdict": "convicted"}, lambda i: False),
        ({"domain": "nowhere.example"}, lambda i: False),
    ],
)
def test_a_filter_lets_through_what_it_says(client: Client, chosen: dict[str, str], passes: Any) -> None:
    total, rows = client.rows(**chosen)
    assert keys(rows) == [i for i in range(N) if passes(i)] and total == len(rows)


def test_neighbours_are_those_of_the_graph(client: Client) -> None:
    status, _, body = client.ask("/api/near?" + urlencode({"shard": "00000.tar", "key": "key0300"}))
    assert status == 200
    found = json.loads(body)
    assert keys([row for row, _ in found]) == list(range(301, 309)) and found[2][1] == 3.0
    assert client.ask("/api/near?shard=x&key=y")[0] == 404


def test_a_picture_is_encoded_anew_and_is_the_right_one(client: Client) -> None:
    asked = {"shard": "00001.tar", "key": "key0017", "at": 512 * 17, "side": 160}
    status, headers, body = client.ask("/picture?" + urlencode(asked))
    assert status == 200 and headers["Content-Type"] == "image/webp"
    assert Image.open(io.BytesIO(body)).convert("RGB").getpixel((0, 0)) == (17 * 4 % 256, 120, 90)
    for other in ({"key": "key0018"}, {"shard": "../../etc/passwd"}):
        assert client.ask("/picture?" + urlencode(asked | other))[0] == 404


@pytest.mark.parametrize(
    ("headers", "place"),
    [
        ({"X_Clipscan_Token": "wrong"}, "/api/rows?start=0&count=1"),
        ({"X_Clipscan_Token": ""}, "/"),
        ({"Host": "evil.example"}, "/api/rows?start=0&count=1"),
        ({"Host": "127.0.0.1"}, "/"),
        ({"Origin": "https://evil.example"}, "/api/rows?start=0&count=1"),
        ({"Origin": "null"}, "/api/rows?start=0&count=1"),
        ({"Sec_Fetch_Site": "cross-site"}, "/picture?shard=00001.tar&key=key0017"),
    ],
)
def test_whoever_is_not_this_page_gets_nothing(client: Client, headers: dict[str, str], place: str) -> None:
    for method in ("GET", "PUT"):
        status, _, body = client.ask(place, method, **headers)
        assert status == 403 and b"key" not in body


def test_it_listens_on_loopback_only(serving: Serving) -> None:
    assert serving.server.socket.getsockname()[0] == "127.0.0.1"
    assert urlsplit(serving.url).hostname == "127.0.0.1" and len(serving.server.token) >= 32


@pytest.mark.parametrize(
    "place",
    ["/api/rows", "/api/rows?start=-1&count=2", "/api/rows?start=a&count=1", "/picture", "/api/near?shard=1",
     "/?" + "a&" * 30, "http://[", "/api/rows?start=0&count=1&low=nan", "/picture?shard=x&key=y&at=x"],
)  # fmt: skip
def test_requests_that_make_no_sense_are_refused(client: Client, place: str) -> None:
    assert client.ask(place)[0] == 400
    assert client.ask("/api")[0] == client.ask("/../run.json")[0] == 404


def test_the_page_allows_itself_and_its_own_server_only(client: Client) -> None:
    status, headers, body = client.ask("/")
    page = html.unescape(body.decode())
    assert status == 200 and headers["Cache-Control"] == "no-store" and headers["X-Frame-Options"] == "DENY"
    assert "connect-src 'self'" in page and "default-src 'none'" in page and client.token not in page


def decisions(words: dict[int, str], **change: Any) -> bytes:
    listed = [
        {"shard": f"{i % 2:05d}.tar", "key": f"key{i:04d}", "decision": word} for i, word in words.items()
    ]
    value = {"clipscan": "decisions", "version": 1, "border": None, "decisions": listed}
    return json.dumps(value | change).encode()


def test_decisions_are_saved_filtered_by_and_exported(tmp_path: Path) -> None:
    run = scored(tmp_path)
    one = open_server(run)
    threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    client = Client(one)
    body = decisions({3: "keep", 300: "drop", 301: "unsure"})
    status, _, answer = client.ask("/api/decisions", "PUT", body, X_Revision="0")
    assert (status, json.loads(answer)) == (200, {"revision": 1})
    assert client.ask("/api/decisions", "PUT", decisions({}), X_Revision="0")[0] == 409
    for broken in (b"{", b"[]", decisions({}, version=2), decisions({1: "perhaps"})):
        assert client.ask("/api/decisions", "PUT", broken, X_Revision="1")[0] == 400
    assert client.ask("/api/decisions", "PUT", body, X_Revision="x")[0] == 400
    assert client.ask("/api/elsewhere", "PUT", body, X_Revision="1")[0] == 400
    expected = {"drop": [300], "keep": [3], "unsure": [301], "dropped": [0, 1, 2, 300]}
    for state, rows in expected.items():
        assert keys(client.rows(state=state)[1]) == rows
    assert client.rows(state="undecided")[0] == N - 3
    assert '"key0300"' in client.ask("/")[2].decode()  # a reload shows them again
    one.server.shutdown()
    one.close()
    saved = run / "decisions.json"
    assert [path.name for path in tmp_path.glob(".decisions*")] == []
    assert choose_drops(run.path, decisions=saved)["key"].to_pylist() == ["key0300"]
    saved.write_text("[]")
    with pytest.raises(DataError, match="not decisions"):
        open_server(run)


def test_a_run_that_is_not_scored_cannot_be_served(tmp_path: Path) -> None:
    run = scored(tmp_path)
    (run / "suspects.parquet").unlink()
    with pytest.raises(RunError, match="score stage"):
        open_server(run)


def test_reviewing_in_a_browser_reaches_beyond_the_suspects(serving: Serving) -> None:
    with chromium() as browser:
        opened = Opened(browser, serving.url)
        opened.press("g")
        assert opened.script("clipscan.review.list.length") == N
        opened.script("clipscan.review.focus(350)")
        opened.until("document.querySelector('.detail h3')?.textContent === 'a flower, number 350'")
        opened.press("dsn")
        opened.until("document.querySelectorAll('.beside img').length === 8")
        opened.until(
            "[...document.querySelectorAll('.tile img, .beside img')].every((i) => i.naturalWidth === 32)"
        )
        opened.page.get_by_role("combobox", name="Decision").select_option("dropped")
        opened.until("clipscan.review.list.length === 5")  # the decisions arrived before they were asked for
        again = Opened(browser, serving.url)
        assert again.words() == {"key0350": "drop", "key0351": "keep"}
        opened.press("z")
        opened.until("document.querySelector('.progress').textContent.startsWith('1 drop0 keep')")
        opened.check()
        again.check()


def test_addresses_give_their_hosts_to_the_filter(tmp_path: Path) -> None:
    run = scored(tmp_path)
    path = run / "embeddings/metadata/metadata_00000.parquet"
    table = pq.read_table(path)
    urls = ["https://www.a.example/x", "http://u:p@b.example:80/y?z", "nonsense", ""]
    column = [urls[i % 4] for i in range(N)]
    pq.write_table(table.set_column(table.column_names.index("url"), "url", [column]), path)
    one = open_server(run)
    assert one.rows.choices("domain") == ["a.example", "b.example"]
    one.close()
