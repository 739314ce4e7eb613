"""A webdataset without what a drop list names: python drop_webdataset.py RUN URLS"""

import sys

import webdataset as wds

import clipscan


def cleaned(run: str, urls: str | list[str]) -> wds.WebDataset:
    """The samples to keep. The list pickles, so the workers of a loader have it too."""
    keep = clipscan.DropList.load(run)
    return wds.WebDataset(urls, shardshuffle=False).select(keep)  # before decode and to_tuple


if __name__ == "__main__":
    print(sum(1 for _ in cleaned(*sys.argv[1:3])), "samples")
