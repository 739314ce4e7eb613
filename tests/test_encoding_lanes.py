"""Batches on their way through an encoder: the same vectors whatever the batch, the device or the order of
its work. CUDA's streams have stand-ins here, which finish nothing before somebody waits for it."""

import io
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from clipscan.data.sample import Bad, Sample
from clipscan.embed import embed_shard, encoding_lanes
from clipscan.embed.decode_pool import DecodePool
from clipscan.embed.embed_shard import embed_samples
from clipscan.embed.untrained import untrained_features
from clipscan.errors import ClipscanError

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")
from clipscan.embed.model import untrained_encoder  # noqa: E402

KEPT = {f"{i:04d}" for i in range(70)} - {"0020", "0040"}  # of the shard; the others are bad
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")


@pytest.fixture(scope="module")
def encoder():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return untrained_encoder("clipscan-vit-32", device="cpu")


@pytest.fixture(scope="module")
def shard():
    """70 pairs, two of them bad."""
    rng = np.random.default_rng(0)
    pairs = []
    for i in range(70):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "PNG")
        pairs.append(Sample("0.tar", f"{i:04d}", file.getvalue(), f"caption {'word ' * (i % 9)}{i % 5}"))
    pairs[20] = replace(pairs[20], image=b"text")
    pairs[40] = Bad("0.tar", "0040", "no caption")
    return pairs


@pytest.fixture(scope="module")
def plain(encoder, shard):
    with DecodePool(1) as pool:
        return embed_samples(shard, encoder, pool, batch_size=16)


def same(found, expected):
    assert found.samples == expected.samples and found.bad == expected.bad
    return all(a.tobytes() == b.tobytes() for a, b in zip(found[:4], expected[:4], strict=True))


def apart(found, expected):
    """The largest difference of two float16 tables, in steps of float16 at the largest value."""
    step = np.spacing(np.abs(expected.image).max())
    return max(
        np.abs(a.astype(np.float32) - b.astype(np.float32)).max() / step
        for a, b in zip(found[:2], expected[:2], strict=True)
    )


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_vectors_depend_on_the_batch_by_rounding_only(encoder, shard, plain, batch_size):
    with DecodePool(1) as pool:
        found = embed_samples(shard, encoder, pool, batch_size=batch_size)
    assert found.samples == plain.samples and found.bad == plain.bad
    assert apart(found, plain) <= 1


class Device:
    """Stands in for torch.cuda: what is queued happens when its event is waited for, and not before."""

    def __init__(self, monkeypatch):
        self.journal: list[str] = []
        self.queued: list = []
        device = self

        class Stream:
            def __init__(self, _device=None):
                self.name = "copies"

            def wait_stream(self, other):
                device.journal.append(f"{self.name} waits for {other.name}")

        class Event:
            def __init__(self, blocking):
                assert blocking

            def record(self, stream):
                assert stream.name == "compute"
                self.mine, device.queued = device.queued, []

            def synchronize(self):
                device.journal.append("collected")
                for copy in self.mine:
                    copy()

        @contextmanager
        def inside(_stream):
            yield

        def to_host(vectors):
            host = torch.full(vectors.shape, torch.nan)
            device.queued.append(lambda: np.copyto(host.numpy(), vectors.numpy()))
            return host

        compute = Stream()
        compute.name = "compute"
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "stream", inside)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: compute)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: device.kept(stream))
        monkeypatch.setattr(encoding_lanes, "_pinned", lambda shape, kind: torch.empty(shape, dtype=kind))
        monkeypatch.setattr(encoding_lanes, "_to_host", to_host)
        monkeypatch.setattr(embed_shard, "open_lane", lambda encoder, _: encoding_lanes.CudaLane(encoder))

    def kept(self, stream):
        self.journal.append(f"started, memory kept for {stream.name}")


def test_two_batches_are_started_before_the_first_is_waited_for(encoder, shard, plain, monkeypatch):
    device = Device(monkeypatch)
    told = []
    with DecodePool(1) as pool:
        found = embed_samples(shard, encoder, pool, batch_size=16, progress=told.append)
    assert same(found, plain)  # read too early they would be NaN, and bad
    assert told == [16, 16, 16, 16, 6]
    started = ["compute waits for copies", "started, memory kept for compute"]
    assert device.journal == [*3 * started, *2 * ["collected", *started], *3 * ["collected"]]


@pytest.mark.parametrize("lane", ["direct", "cuda"])
def test_untrained_features_stay_in_step_with_the_vectors_on_either_lane(
    encoder, shard, plain, lane, monkeypatch
):
    if lane == "cuda":
        Device(monkeypatch)
    with DecodePool(1) as pool:
        found = embed_samples(shard, encoder, pool, batch_size=16, untrained=True)
    assert same(found, plain) and plain.untrained is None
    shown = [np.asarray(Image.open(io.BytesIO(pair.image))) for pair in shard if pair.key in KEPT]
    assert (found.untrained == untrained_features(shown)).all() and len(shown) == 68


def test_untrained_features_are_made_while_the_device_is_at_the_batch(encoder, shard, monkeypatch):
    device = Device(monkeypatch)

    def watched(pictures):
        device.journal.append(f"features of {len(pictures)}")
        return untrained_features(pictures)

    monkeypatch.setattr(embed_shard, "untrained_features", watched)
    with DecodePool(1) as pool:
        embed_samples(shard[:16], encoder, pool, batch_size=16, untrained=True)
    assert device.journal.index("features of 16") > device.journal.index("started, memory kept for compute")


def test_a_batch_of_bad_samples_needs_no_device(encoder, monkeypatch):
    device = Device(monkeypatch)
    bad = [Bad("0.tar", str(i), "no caption") for i in range(40)]
    with DecodePool(1) as pool:
        found = embed_samples(bad, encoder, pool, batch_size=16, untrained=True)
    assert found.untrained.shape == (0, 688)
    assert found.bad == bad and found.image.shape == (0, 128) and device.journal == []


def test_a_compiled_tower_is_compiled_once_whatever_the_batches_hold(shard, plain, monkeypatch):
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: compile(model, backend=backend, **options))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        encoder = untrained_encoder("clipscan-vit-32", device="cpu", compile=True)
    with DecodePool(1) as pool:
        found = embed_samples(shard, encoder, pool, batch_size=16)
    assert len(graphs) == 1
    assert found.samples == plain.samples and found.bad == plain.bad and apart(found, plain) <= 1
    assert encoder.describe()["compiled"] is True  # other rounding: a run does not mix with it


def test_a_tower_that_cannot_be_compiled_is_one_sentence(monkeypatch):
    def backend(_graph, _inputs):
        raise RuntimeError("no C++ compiler")

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: compile(model, backend=backend, **options))
    encoder = untrained_encoder("clipscan-conv-32", device="cpu", compile=True)
    with pytest.raises(ClipscanError, match=r"--compile: torch cannot .* leave it out .*no C\+\+ compiler"):
        encoder.encode_images(np.zeros((2, 32, 32, 3), np.uint8))


def test_a_run_without_compile_is_described_as_ever(encoder):
    assert "compiled" not in encoder.describe()


@needs_gpu
@pytest.mark.parametrize("name", ["clipscan-vit-32", "clipscan-conv-32"])
def test_a_gpu_gives_the_vectors_of_the_cpu(name, shard, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        exact = untrained_encoder(name, device="cpu")
        torch.manual_seed(5)
        on_gpu = untrained_encoder(name, device="cuda", precision="fp32")
    with DecodePool(1) as pool:
        expected = embed_samples(shard, exact, pool, batch_size=16)
        found = embed_samples(shard, on_gpu, pool, batch_size=16)
        again = embed_samples(shard, on_gpu, pool, batch_size=16)
    assert same(again, found)
    assert found.samples == expected.samples and apart(found, expected) <= 1


@needs_gpu
def test_on_a_gpu_batches_in_flight_do_not_mix(shard):
    encoder = untrained_encoder("clipscan-vit-32", device="cuda")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 32, 32, 3), dtype=np.uint8)
    lane = encoding_lanes.open_lane(encoder, 8)
    waiting = [lane.start(list(batch), [f"caption {i}"] * 8) for i, batch in enumerate(pixels)]
    for batch, vectors in zip(pixels, waiting, strict=True):
        assert (vectors()[0] == encoder.encode_images(batch)).all()
