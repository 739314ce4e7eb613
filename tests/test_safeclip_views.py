"""Parts of SafeCLIP: the pool of nearest captions, views of pictures, edits of captions."""

from random import Random

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")


def test_a_pool_hands_out_the_nearest_of_what_it_saw_last():
    from clipscan.train.pool import Pool

    pool, rows = Pool(3), torch.eye(5)
    assert torch.equal(pool.nearest(rows), rows), "an empty pool: the vector itself"
    pool.push(rows[:2])
    assert torch.equal(pool.nearest(torch.tensor([[0.1, 0.9, 0, 0, 0]])), rows[1:2])
    pool.push(rows[2:4])
    assert torch.equal(pool.rows, rows[1:4])
    pool.push(rows)
    assert torch.equal(pool.rows, rows[2:])
    nothing = Pool(0)
    nothing.push(rows)
    assert nothing.rows is None


def test_a_nearest_neighbour_carries_no_gradient():
    from clipscan.train.pool import Pool

    pool, features = Pool(4), torch.eye(2, requires_grad=True)
    pool.push(features)
    assert not pool.nearest(features).requires_grad


def test_views_of_pictures_do_what_torchvision_does():
    from clipscan.embed.open_clip import import_open_clip

    import_open_clip()  # makes torchvision importable beside a CPU build of torch
    from torchvision.transforms.v2 import functional as theirs

    from clipscan.train import views as ours

    picture = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one, no = torch.ones(3), torch.zeros(3, dtype=torch.bool)
    half, corner = torch.full((3, 2), 0.5), torch.full((3, 2), -0.5)
    box = theirs.resized_crop(picture, 0, 0, 16, 16, [32, 32], antialias=False)
    within = (..., slice(0, 31), slice(0, 31))  # ours looks beyond the edge of the crop
    for mine, reference, tolerance in [
        (ours.contrasted(picture, 1.4 * one), theirs.adjust_contrast(picture, 1.4), 1e-4),
        (ours.recoloured(picture, 0.4 * one, 0 * one), theirs.adjust_saturation(picture, 0.4), 1e-4),
        (ours.recoloured(picture, 0 * one, 0 * one), theirs.rgb_to_grayscale(picture, 3), 1e-3),
        (ours.blurred(picture, 1.3 * one, 5), theirs.gaussian_blur(picture, [5, 5], [1.3, 1.3]), 1e-5),
        (ours.crop(picture, half, corner, no)[within], box[within], 1e-5),
        (ours.crop(picture, one[:, None].repeat(1, 2), 0 * half, ~no), theirs.hflip(picture), 1e-5),
    ]:
        assert (mine - reference).abs().max() < tolerance


def test_every_picture_of_a_batch_has_a_view_of_its_own():
    from clipscan.train.views import picture_views

    pixels = torch.randint(0, 256, (1, 32, 32, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    pixels = pixels.repeat(40, 1, 1, 1)
    views = picture_views(pixels, torch.Generator().manual_seed(1))
    assert views.shape == pixels.shape and views.dtype == torch.uint8
    assert len({view.numpy().tobytes() for view in views}) == 40
    assert torch.equal(views, picture_views(pixels, torch.Generator().manual_seed(1)))
    grey = (views.float().std(3) < 1.0).all(2).all(1)
    assert 1 <= int(grey.sum()) <= 20


def test_a_caption_gets_one_edit_made_of_its_own_words():
    from clipscan.train.views import caption_view

    random, caption = Random(0), "a red square on a blue table"
    views = {caption_view(caption, random) for _ in range(100)}
    assert {len(view.split()) for view in views} == {6, 7, 8}
    assert {word for view in views for word in view.split()} == set(caption.split())
    assert caption_view("banana", random) == "banana" and caption_view("", random) == ""
    long = " ".join(str(i) for i in range(40))
    assert {len(caption_view(long, random).split()) for _ in range(50)} == {36, 40, 44}


def test_an_edit_that_makes_new_tokens_is_undone(tmp_path):
    from clipscan.train.batches import Cached
    from clipscan.train.processes import Processes
    from clipscan.train.survey import CAPTION, CAPTIONS, PIXELS

    (tmp_path / PIXELS).write_bytes(bytes(2 * 4 * 4 * 3))
    np.save(tmp_path / CAPTION, np.array([1, 0]))
    (tmp_path / CAPTIONS).write_text('["ab", "ba"]')

    class Spec:
        size = 4

    def letters(captions):
        return np.array([[ord(letter) for letter in caption] for caption in captions], np.int32)

    source = Cached(tmp_path, 2, Spec(), 0, letters, Processes("cpu"))
    rows = np.arange(2)
    assert np.array_equal(source.edited(rows, lambda c: c[::-1]), letters(["ab", "ba"]))
    assert np.array_equal(source.edited(rows, lambda c: "a" + c[0].replace("a", "c")), letters(["ab", "ab"]))
