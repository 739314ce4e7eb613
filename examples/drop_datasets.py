"""A Hugging Face dataset without what a drop list names: python drop_datasets.py RUN 'folder/*.tar'"""

import sys

import datasets

import clipscan


def cleaned(run: str, dataset: datasets.Dataset) -> datasets.Dataset:
    """The rows to keep, by number: no picture is decoded."""
    return dataset.select(clipscan.DropList.load(run).indices(dataset))


def cleaned_stream(run: str, stream: datasets.IterableDataset) -> datasets.IterableDataset:
    """The same of a stream, row by row."""
    keep = clipscan.DropList.load(run)
    return stream.filter(keep, input_columns=["__url__", "__key__"])


if __name__ == "__main__":
    tars = datasets.load_dataset("webdataset", data_files=sys.argv[2], split="train")
    print(cleaned(sys.argv[1], tars))
