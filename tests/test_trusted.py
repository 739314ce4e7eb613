"""A second model that has not seen the data: its column, its place among the stages, what it refuses."""

import io
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import clipscan
from clipscan.pipeline import explain
from clipscan.run import Run, RunFolder, status
from clipscan.run.scoring import read_scores
from clipscan.run.why_suspected import why

torch = pytest.importorskip("torch", reason="needs clipscan[embed]")


def save_random_model(path, seed, scale=1.0):
    from safetensors.torch import save_file

    from clipscan.embed.model import MODEL_KEY, create_network

    torch.manual_seed(seed)
    state = {name: t * scale if "proj" in name else t for name, t in
             create_network("clipscan-conv-32").state_dict().items()}  # fmt: skip
    save_file(state, path, metadata={MODEL_KEY: "clipscan-conv-32"})
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(the suspect, the trusted, another trusted one): random small CLIPs."""
    folder = tmp_path_factory.mktemp("models")
    return [save_random_model(folder / f"{seed}.safetensors", seed) for seed in range(3)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three tars of 20 pairs; in the last, one picture is broken."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for shard in range(3):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for i in range(20):
                picture = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(picture, "PNG")
                bytes_ = b"broken" if (shard, i) == (2, 7) else picture.getvalue()
                for kind, content in (("png", bytes_), ("txt", f"picture {shard} {i}".encode())):
                    member = tarfile.TarInfo(f"{i:04d}.{kind}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


def scan(data, out, models, **options):
    asked = {"pretrained": models[0], "k": 3, "reference": "30x2", "workers": 1} | options
    return clipscan.scan(data, out=out, **asked)


@pytest.fixture(scope="module")
def done(data, models, tmp_path_factory):
    return scan(data, tmp_path_factory.mktemp("run"), models, trusted_pretrained=models[1])


def test_the_column_is_one_minus_the_cosine_in_the_second_model(done, data, models, tmp_path):
    other = clipscan.scan(data, out=tmp_path, pretrained=models[1], k=3, reference="30x2", workers=1)
    trusted, cosine = (read_scores(RunFolder(run.out)) for run in (done, other))
    assert trusted["key"].equals(cosine["key"]) and len(trusted) == 59
    assert np.abs(trusted["trusted"].to_numpy() - cosine["cosine"].to_numpy()).max() < 1e-12
    assert np.abs(trusted["trusted"].to_numpy() - trusted["cosine"].to_numpy()).max() > 1e-3


def test_it_makes_no_untrained_features_which_the_first_pass_has(data, models, tmp_path, monkeypatch):
    from clipscan.embed import embed_shard

    seen = []
    features = embed_shard.untrained_features
    monkeypatch.setattr(
        embed_shard,
        "untrained_features",
        lambda pictures: [seen.append(len(pictures)), features(pictures)][1],
    )
    scan(data, tmp_path, models, trusted_pretrained=models[1])
    assert seen == [20, 20, 19]


def test_suspects_reasons_page_and_explain_know_it(done):
    suspects = done.table()
    assert {"trusted", "trusted_rank", "antihub", "antihub_rank"} <= set(suspects.column_names)
    page = done.page.read_text()
    assert "disagree for a model that has not seen this data" in page
    assert "few other samples count this one among their neighbours" in page
    assert any(line.startswith("trusted ") for line in explain(Run(done.out), "00001.tar/0003").splitlines())
    row = {"cosine_rank": 500, "trusted_rank": 3}
    assert why(row, {}, 1000, {"method": "dao", "k": 16}) == (
        "A model that has not seen this data finds the caption wrong."
    )


def test_it_may_rank(data, models, tmp_path):
    asked = {"method": "trusted", "reference": "20x2,30x2", "fraction": 1.0}
    suspects = scan(data, tmp_path, models, trusted_pretrained=models[1], **asked).table()
    assert (suspects["score"].to_numpy() == suspects["trusted"].to_numpy()).all()
    assert (np.diff(suspects["score"].to_numpy()) <= 0).all()


def test_the_graph_counts_hubs_and_may_rank_too(data, models, tmp_path):
    done = scan(data, tmp_path, models, method="antihub")
    index = np.concatenate([np.load(path) for path in sorted((tmp_path / "neighbors").glob("index*"))])
    count = np.bincount(index.ravel(), minlength=59)
    assert np.allclose(read_scores(RunFolder(tmp_path))["antihub"].to_numpy(), 1 / (1 + count))
    assert done.table()["score"][0].as_py() == 1 / (1 + count.min())
    with pytest.raises(clipscan.InputError, match="no graph of this k"):
        scan(data, tmp_path / "none", models, method="antihub", graph="no")


def test_a_pass_cut_short_goes_on_where_it_was(done, data, models, tmp_path, monkeypatch):
    from clipscan.run import trusted

    write, written = trusted.write_array, []

    def failing(path, array):
        written.append(path.name)
        if len(written) == 2:
            raise KeyboardInterrupt
        write(path, array)

    monkeypatch.setattr(trusted, "write_array", failing)
    with pytest.raises(KeyboardInterrupt):
        scan(data, tmp_path, models, trusted_pretrained=models[1])
    assert [(s.stage, s.done) for s in status(tmp_path)][:2] == [("embed", 3), ("trusted", 1)]
    with pytest.raises(clipscan.RunError, match="has not ended; scan again"):
        trusted.read_trusted(RunFolder(tmp_path))
    scan(data, tmp_path, models, trusted_pretrained=models[1])
    assert written == [f"trusted_0000{n}.npy" for n in (0, 1, 1, 2)]
    for path in (done.out / "scores").glob("*"):
        assert (tmp_path / "scores" / path.name).read_bytes() == path.read_bytes()


def test_another_trusted_model_is_refused_and_overwrite_redoes_its_column_only(data, models, tmp_path):
    scan(data, tmp_path, models)
    assert "trusted" not in [stage.stage for stage in status(tmp_path)]
    kept = [tmp_path / "embeddings/img_emb/img_emb_00000.npy", tmp_path / "neighbors/index_00000.npy"]
    before = [path.stat().st_mtime_ns for path in kept]
    for model in (models[1], models[2], None):
        with pytest.raises(clipscan.RunError, match=r" there, .* asked.*redo the trusted stage"):
            scan(data, tmp_path, models, trusted_pretrained=model)
        scan(data, tmp_path, models, trusted_pretrained=model, overwrite=True)
        found = pq.read_schema(tmp_path / "scores/scores_00000.parquet").names
        assert ("trusted" in found) == (model is not None) == (tmp_path / "trusted").exists()
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_a_pair_that_only_the_suspect_can_embed_has_no_number_and_ranks_last(data, models, tmp_path):
    huge = save_random_model(tmp_path / "huge.safetensors", 3, scale=1e12)  # beyond float16
    done = scan(data, tmp_path / "run", models, trusted_pretrained=huge, fraction=1.0)
    assert np.isnan(done.table()["trusted"].to_numpy()).all()
    assert done.counts["embedded"] == 59 and done.counts["dropped"] == 59


def test_what_cannot_be_is_said_before_anything_is_embedded(data, models, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((50, 4), np.float32))
    with pytest.raises(clipscan.InputError, match="holds embeddings"):
        clipscan.scan(tmp_path / "a.npy", out=tmp_path / "run", trusted_pretrained=models[1])
    with pytest.raises(clipscan.InputError, match="the weights of the model under suspicion"):
        scan(data, tmp_path / "run", models, trusted_pretrained=models[0])
    with pytest.raises(clipscan.InputError, match="needs a trusted model"):
        scan(data, tmp_path / "run", models, method="trusted")
    with pytest.raises(clipscan.InputError, match="no file"):
        scan(data, tmp_path / "run", models, trusted_pretrained=tmp_path / "missing.safetensors")
    assert not (tmp_path / "run").exists()
