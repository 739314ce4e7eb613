"""Decoders that are killed, stopped, slow or orphaned, as real processes. Every wait has an end that only a
hang reaches."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipscan.data.sample import Bad, Sample
from clipscan.embed import pixels
from clipscan.embed.decode_pool import DecodePool, decode_all
from clipscan.embed.decode_worker import USUAL_SECONDS, Allowance
from clipscan.embed.pixels import PixelSpec
from clipscan.errors import ClipscanError

SPEC = PixelSpec(32)
PATIENCE = 60.0  # seconds; what is waited for takes a moment

# A decoder that writes down its process number. WAIT: a picture that takes ten minutes; ONCE: for the first
# decoder that meets it. Its first start may be disturbed: killed, or stopped when it is ready.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
folder = Path({folder!r})
sys.path.insert(0, str(folder))
import pixels
starts = folder / "starts"
with starts.open("a") as file:
    print(os.getpid(), file=file)
started = len(starts.read_text().split())
if started <= {killed}:
    os.kill(os.getpid(), signal.SIGKILL)
decode, serve = pixels.decode, pixels.serve
def slow(data, spec):
    if data.startswith((b"WAIT", b"ONCE")) and not (data.startswith(b"ONCE") and (folder / "met").exists()):
        (folder / "met").touch()
        time.sleep(600)
    return decode(data.removeprefix(b"ONCE"), spec)
def stopping(*args):
    if started <= {stopped}:
        os.kill(os.getpid(), signal.SIGSTOP)
    serve(*args)
pixels.decode, pixels.serve = slow, stopping
pixels.main()
"""


class Decoders:
    """Makes the pools of this process use SCRIPT; knows who was started."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        (folder / "pixels.py").write_bytes(Path(pixels.__file__).read_bytes())
        self.script = folder / "decoder.py"

    def disturbed(self, *, killed: int = 0, stopped: int = 0) -> None:
        self.script.write_text(SCRIPT.format(folder=str(self.folder), killed=killed, stopped=stopped))
        self.monkeypatch.setattr(pixels, "__file__", str(self.script))

    def started(self) -> list[int]:
        file = self.folder / "starts"
        return [int(word) for word in file.read_text().split()] if file.exists() else []

    def at_work(self) -> int:
        """The decoder that holds a picture and does not give it back."""
        until((self.folder / "met").exists)
        return self.started()[-1]

    def gone(self) -> bool:
        return not any(map(alive, self.started()))


pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux: its /proc")


@pytest.fixture
def decoders(tmp_path, monkeypatch):
    made = Decoders(tmp_path, monkeypatch)
    made.disturbed()
    return made


def until(true) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def alive(process: int) -> bool:
    """Whether it runs; one that has ended and whose parent has not asked yet, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def png(size: int = 32) -> bytes:
    file = io.BytesIO()
    draw = np.random.default_rng(size)
    Image.fromarray(draw.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def reasons(images: list[bytes], pool: DecodePool, shard: str = "0.tar") -> list[str]:
    """Of each picture, why there are no pixels; "" where there are."""
    samples = [Sample(shard, str(i), image, "a caption") for i, image in enumerate(images)]
    return [one.reason if isinstance(one, Bad) else "" for one in decode_all(samples, SPEC, pool)]


def test_a_decoder_that_is_killed_while_it_starts_is_started_again(decoders):
    decoders.disturbed(killed=2)
    with DecodePool(1) as pool:
        assert reasons([png()] * 3, pool) == [""] * 3
    assert len(decoders.started()) == 3 and decoders.gone()


def test_a_series_of_decoders_that_do_not_start_ends_the_run_in_words(decoders):
    decoders.disturbed(killed=1000)
    with (
        DecodePool(1) as pool,
        pytest.raises(ClipscanError, match=r"3 times in a row: was killed by signal 9"),
    ):
        reasons([png()], pool)
    assert len(decoders.started()) == 3


def test_a_system_without_room_for_a_decoder_ends_the_run_in_words(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with DecodePool(1) as pool, pytest.raises(ClipscanError, match=r"3 times in a row: .*No such file"):
        reasons([png()], pool)


def test_a_picture_whose_decoder_somebody_kills_is_decoded_by_the_next(decoders):
    with DecodePool(1) as pool:
        answer = pool.submit([png(), b"ONCE" + png(), png()], [Allowance(600.0)] * 3, SPEC)
        os.kill(decoders.at_work(), signal.SIGKILL)
        assert all(isinstance(one, np.ndarray) for one in answer.result(PATIENCE))
    assert len(decoders.started()) == 2


@pytest.mark.parametrize("size", [32, 1000], ids=["fits the pipe", "does not"])
def test_a_decoder_that_stands_still_costs_one_picture(decoders, size):
    decoders.disturbed(stopped=1)
    with DecodePool(1, time_limit=1.0) as pool:
        first, *others = reasons([png(size)] * 3, pool)
    assert first.startswith("its decoder took ") and others == ["", ""]
    assert decoders.gone()


def test_the_end_of_a_pool_waits_for_no_picture(decoders):
    with pytest.raises(KeyboardInterrupt), DecodePool(2, time_limit=600) as pool:
        waiting = [pool.submit([b"WAIT"] * 64, [Allowance(600.0)] * 64, SPEC) for _ in range(6)]
        decoders.at_work()
        raise KeyboardInterrupt
    assert all(answer.cancelled() for answer in waiting)
    assert decoders.gone()


SCAN = """
import sys
from clipscan.embed import pixels
pixels.__file__ = sys.argv.pop(1)
from clipscan.cli import main
main()
"""


def test_ctrl_c_ends_a_scan_of_slow_pictures_and_its_decoders(decoders, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")
    from clipscan.embed.network import create_network

    model = "clipscan-vit-32"
    torch.save(create_network(model).state_dict(), tmp_path / "weights.pt")
    (tmp_path / "data").mkdir()
    for i in range(200):
        (tmp_path / "data" / f"{i}.jpg").write_bytes(b"WAIT")
        (tmp_path / "data" / f"{i}.txt").write_text("a caption")
    command = ["scan", tmp_path / "data", "--out", tmp_path / "run", "--workers", 2]
    command += ["--model", model, "--pretrained", tmp_path / "weights.pt"]
    scan = subprocess.Popen(
        [sys.executable, "-P", "-c", SCAN, str(decoders.script), *map(str, command)], start_new_session=True
    )
    try:
        decoders.at_work()
        os.killpg(scan.pid, signal.SIGINT)  # as a terminal does
        assert scan.wait(PATIENCE) != 0
    finally:
        scan.kill()
    until(decoders.gone)


def test_decoders_whose_parent_is_killed_end_by_themselves(decoders):
    code = (
        "import sys; from clipscan.embed import pixels; pixels.__file__ = sys.argv[1];"
        "from clipscan.embed.decode_pool import *; from clipscan.embed.decode_worker import Allowance;"
        "pool = DecodePool(1, time_limit=1);"
        "pool.submit([b'WAIT'] * 999, [Allowance(9e9)] * 999, PixelSpec(32)).result()"
    )
    parent = subprocess.Popen([sys.executable, "-P", "-c", code, str(decoders.script)])
    decoders.at_work()
    parent.kill()
    parent.wait(PATIENCE)
    until(decoders.gone)


def test_slow_pictures_of_a_shard_have_an_allowance_and_the_others_are_decoded(decoders):
    with DecodePool(1, time_limit=USUAL_SECONDS + 2, shard_limit=1.0) as pool:
        good, first, second, last = reasons([png(), b"WAIT", b"WAIT", png()], pool)
    used_up = "; the slow pictures of its shard have used up their 1 s"
    assert first == f"its decoder took longer than {USUAL_SECONDS + 1:g} s{used_up}"
    assert second == f"its decoder took longer than {USUAL_SECONDS:g} s{used_up}"
    assert good == last == ""


def test_only_what_is_slower_than_usual_is_taken_from_the_allowance():
    shard = Allowance(10.0)
    for _ in range(1000):
        shard.spend(USUAL_SECONDS)
    assert shard.limit(30.0) == USUAL_SECONDS + 10 and shard.limit(5.0) == 5.0
    for _ in range(3):
        shard.spend(USUAL_SECONDS + 4)
    assert shard.limit(30.0) == USUAL_SECONDS
