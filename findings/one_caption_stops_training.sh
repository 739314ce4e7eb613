#!/usr/bin/env bash
# open_clip_torch 3.3.0 with ftfy 6.3.1 (PyPI), CPython 3.11 and later: open_clip's SimpleTokenizer.
#
# Expected: a caption is text from the web, and whatever it says it becomes 77 tokens.
# Seen: the tokenizer undoes HTML escapes first (html.unescape, twice). A numeric character reference of more than
# 4,300 digits reaches int(), which refuses so many (sys.int_info.default_max_str_digits), so the call raises
# ValueError. tokenize() is called in the data loader for every caption: one such alt text, valid UTF-8 of 4.3 kB,
# ends the epoch, wherever in millions of pairs it lies. A reference of 4,300 digits passes and becomes U+FFFD.
# Neither open_clip's documentation nor that of html.unescape names the limit.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@" 2>"$place/log" || { cat "$place/log"; exit 1; }; }
pip torch==2.13.0 numpy ftfy==6.3.1 regex tqdm huggingface_hub safetensors
pip --no-deps open_clip_torch==3.3.0
"$place/venv/bin/python" - <<'PY'
import importlib
import importlib.metadata
import importlib.util
import sys
import types

# The tokenizer's own file, without the package's __init__: that imports torchvision, which this does not need.
package = types.ModuleType("open_clip")
package.__path__ = list(importlib.util.find_spec("open_clip").submodule_search_locations)
sys.modules["open_clip"] = package
tokenizer = importlib.import_module("open_clip.tokenizer")

print("python", sys.version.split()[0], "| open_clip_torch", importlib.metadata.version("open_clip_torch"))
tokenize = tokenizer.SimpleTokenizer()
most = sys.int_info.default_max_str_digits
print(f"{most:,} digits:", tuple(tokenize(["a dog &#" + "9" * most + ";"]).shape))
try:
    tokenize(["a dog &#" + "9" * (most + 1) + ";"])
except ValueError as error:
    print(f"{most + 1:,} digits: ValueError: {error}")
else:
    sys.exit("it no longer raises")
PY
