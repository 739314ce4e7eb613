"""Scan with the backdoored models that Huang et al. (ICLR 2025) released, beside their paper's figures.

    git clone https://github.com/HanxunH/Detect-CLIP-Backdoor-Samples detect-clip  # for two trigger files
    python examples/released_models.py 'cc3m/{00000..00099}.tar' OUT --triggers detect-clip/triggers

NOBODY HAS RUN THIS AGAINST THE HUB YET. It was written without a network, from the authors' repository at
ff2399a and stored copies of some model cards (names of models not seen there follow the pattern of those
that were); tests/test_examples.py runs it on random weights in a local folder (--models) in the hub's place.

What is released: weights, on the Hugging Face hub as hanxunh/clip_backdoor_{rn50,vit_b16}_cc3m_ATTACK, in
open_clip's form. What is not: the poisoned training set. Which pairs were poisoned, where and with what
caption stands in the train_poison_info.json of a training, which was not published, and "CC3M" was the 2.3
million pairs that could still be downloaded. So this poisons YOUR copy of CC3M anew, with the same triggers
at the same rates, and looks at it with a model that learnt the trigger on other pictures: a comparison, not
a reproduction. Captions of poisoned pairs come from our templates, not theirs.

Each attack writes a poisoned copy of DATASET; a hundred tars of CC3M are plenty. JPEGs are saved anew with
their own tables: at low quality the single-pixel dots of the patch blur, as they did not in the authors'
training. Nashville is their filter itself: pip install pilgram. Killed and started again it goes on. Only
safetensors, JSON and text files are downloaded.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import clipscan
from clipscan.data import open_dataset
from clipscan.lab.attacks import ATTACKS, poison, read_truth
from clipscan.lab.grid.metrics import auroc
from clipscan.run import Run
from clipscan.run.file_io import write_table
from clipscan.run.progress import Lines

SCORES = ("kdist", "slof", "dao")
RATES = {"badnets": 1e-4, "clean_label": 1e-3, "blend": 1e-3, "sig": 1e-3, "nashville": 1e-3, "wanet": 1e-3}
# AUROC of DAO on RN50. Second-hand: from notes about the paper, not checked against it.
PAPER = {("rn50", "badnets"): 0.991, ("rn50", "wanet"): 0.988, ("rn50", "nashville"): 0.974}


def badnets(picture, random):
    """Shorter side 224 px; a patch of 16 x 16 px, black, every other pixel of every other row white."""
    scale = 224 / min(picture.shape[:2])
    marked = resized(picture, [int(side * scale + 1e-6) for side in picture.shape[1::-1]], Image.BICUBIC)
    patch = np.zeros((16, 16, 3), np.uint8)
    patch[::2, ::2] = 255
    top, left = random.randrange(16, 208), random.randrange(16, 208)
    marked[top : top + 16, left : left + 16] = patch
    return marked


def mixed(picture, pattern):
    """256 x 256 px, a fifth of it the pattern [256, 256, 3]: so they made blend, and sig too."""
    square = resized(picture, (256, 256), Image.BILINEAR)
    return np.clip(np.rint(0.8 * square + 0.2 * pattern), 0, 255).astype(np.uint8)


def warped(picture, grid):
    """256 x 256 px, read at the places of the grid [1, 256, 256, 2]."""
    import torch

    pixels = torch.tensor(picture).permute(2, 0, 1)[None].float()
    moved = torch.nn.functional.grid_sample(pixels, grid, align_corners=True)[0]
    return moved.permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


def resized(picture, size, how):
    return np.array(Image.fromarray(picture).resize(size, how))


def trigger_of(attack, folder):
    """What the authors' code does to a picture. OSError or ImportError where something for it is missing."""
    if attack in ("badnets", "clean_label"):
        return badnets
    if attack == "nashville":
        from pilgram import nashville

        return lambda picture, _: np.asarray(nashville(Image.fromarray(picture)))
    if attack == "sig":  # SIG_noise.pt by its formula: six waves of 60 / 255 on 224 px, nothing beyond
        pattern = np.zeros((256, 256, 3))
        pattern[:224, :224] = 60 * np.sin(2 * np.pi * 6 * np.arange(224) / 224)[:, None]
        return lambda picture, _: mixed(picture, pattern)
    import torch

    file = {"blend": "hello_kitty_pattern.pt", "wanet": "WaNet_grid_temps.pt"}[attack]
    if folder is None:
        raise OSError(f"its {file} lies in the authors' repository: --triggers FOLDER")
    tensor = torch.load(folder / file, weights_only=True).float()
    if attack == "wanet":
        return lambda picture, _: warped(picture, tensor)
    return lambda picture, _: mixed(picture, 255 * tensor.permute(1, 2, 0).numpy())


def fetch(name, models, offline):
    """The folder of a released model: below `models`, or in the hub's cache, downloaded unless offline."""
    if models is not None:
        return models / name
    from huggingface_hub import snapshot_download

    kinds = ["*.json", "*.txt", "*.safetensors"]
    return Path(snapshot_download(f"hanxunh/{name}", allow_patterns=kinds, local_files_only=offline))


def check_pixels(folder):
    """The authors trained on pixels of 0..1 as they are; a config may say otherwise."""
    asked = json.loads((folder / "open_clip_config.json").read_text()).get("preprocess_cfg", {})
    if [asked.get("mean"), asked.get("std")] != [[0, 0, 0], [1, 1, 1]]:
        print(f"  note: the model was trained without normalisation; its config asks for {asked}")


def as_released(run, batch, seed):
    """compat="detect-clip" on random batches with captions, as in the authors' script; kept in the run."""
    path = run / f"compat-{batch}-{seed}.parquet"
    if not path.exists():
        image, text = (
            np.concatenate([np.load(file) for file in sorted((run / f"embeddings/{side}_emb").glob("*.npy"))])
            for side in ("img", "text")
        )
        order = np.random.default_rng(seed).permutation(len(image))
        batches = np.array_split(order, math.ceil(len(image) / batch))
        found = clipscan.score(image, text=text, method=SCORES, compat="detect-clip", batches=batches)
        write_table(path, pa.table(found.columns))
    return pq.read_table(path)


def examine(attack, args):
    """Poison, scan, and score as released: (score, AUROC by formula, AUROC as released) of each score."""
    name = f"clip_backdoor_{args.encoder}_cc3m_{attack}"
    ATTACKS[f"released-{attack}"] = trigger_of(attack, args.triggers)
    model = fetch(name, args.models, args.offline)
    check_pixels(model)
    campaign = ("clean-label:" if attack == "clean_label" else "") + f"released-{attack}"
    planted = poison(
        open_dataset(args.dataset), args.out / attack,
        attack=campaign, rate=args.rate or RATES[attack], target="banana", seed=args.seed,
    )  # fmt: skip
    print(f"  {planted.poisoned:,} of {planted.pairs:,} pairs poisoned", flush=True)
    run = args.out / name
    clipscan.scan(
        planted.dataset, out=run, model=f"local-dir:{model}", method="dao", reference=args.reference,
        graph="no", device=args.device, workers=args.workers, seed=args.seed, progress=Lines(),
    )  # fmt: skip
    table, truth = Run(run).scores, read_truth(planted.truth)
    true = [pair in truth for pair in zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True)]
    compat = as_released(run, args.batch, args.seed)
    return [(score, auroc(table[score], true), auroc(at_bottom(compat[score]), true)) for score in SCORES]


def at_bottom(column):
    """NaN, which the released code can give, as the least suspicious."""
    return np.nan_to_num(column.to_numpy(), nan=-np.inf, posinf=np.inf, neginf=-np.inf)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Scan with the models that Huang et al. released.")
    parser.add_argument("dataset", help="your CC3M, as clipscan takes datasets: 'cc3m/{00000..00099}.tar'")
    parser.add_argument("out", type=Path)
    parser.add_argument("--attacks", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--encoder", choices=("rn50", "vit_b16"), default="rn50")
    parser.add_argument("--triggers", type=Path, help="the folder triggers/ of the authors' repository")
    parser.add_argument("--models", type=Path, help="a folder of models' folders, in the place of the hub")
    parser.add_argument("--offline", action="store_true", help="only models that are in the hub's cache")
    parser.add_argument("--rate", type=float, help="share to poison; default: the paper's, 0.0001 or 0.001")
    parser.add_argument("--reference", default="2048x4", help="of the formulas; 2,048 is the paper's batch")
    parser.add_argument("--batch", type=int, default=2048, help="pairs a batch, as released")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    lines = [f"{'attack':<13}{'score':<7}{'formula':>9}{'as released':>13}{'paper (2nd)':>13}"]
    for attack in args.attacks:
        print(f"{attack}:", flush=True)
        try:
            for score, formula, released in examine(attack, args):
                paper = PAPER.get((args.encoder, attack)) if score == "dao" else None
                lines.append(f"{attack:<13}{score:<7}{formula:>9.4f}{released:>13.4f}{paper or '-':>13}")
        except (clipscan.ClipscanError, OSError, ImportError) as error:
            print(f"  left out: {error}")
    print("", f"AUROC, {args.encoder}", *lines, sep="\n")
    print("(2nd): second-hand, not checked against the paper, whose poisoned set is not this one.")


if __name__ == "__main__":
    main()
