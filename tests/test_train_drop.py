"""Training without the pairs of a drop list."""

import pytest
from train_helpers import Two

from clipscan.data import Without
from clipscan.errors import DataError
from clipscan.run.run_folder import fingerprint

pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")


def test_a_dataset_without_some_pairs_is_another_dataset():
    drop = {("0.tar", "1"), ("1.tar", "2")}
    less = Without(Two(), drop)
    read = {(one.shard, one.key) for shard in less.shards for one in less.read(shard)}
    assert read == {(f"{i}.tar", str(k)) for i in range(2) for k in range(3)} - drop
    assert less.shards[0].stamp == f"then without {fingerprint(sorted(drop))[:8]}"
    less.check()
    Without(Two(), set()).check()


def test_a_drop_list_of_another_dataset_is_refused():
    with pytest.raises(
        DataError, match=r"holds none of the 2 pairs to drop, the first of them \('0.tar', '7'\)"
    ):
        Without(Two(), {("0.tar", "7"), ("elsewhere.tar", "1")}).check()
    with pytest.raises(DataError, match=r"does not hold 1 of the 3 pairs to drop, .* \('1.tar', '7'\)"):
        Without(Two(), {("0.tar", "1"), ("1.tar", "2"), ("1.tar", "7")}).check()
    Without(Two(), {("0.tar", "1"), ("elsewhere.tar", "1")}).check()  # a part of the dataset, its whole list
