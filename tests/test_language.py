"""The language rules of the project: plain US English in code, messages and docs."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".py", ".md", ".yaml", ".toml"}
BRITISH = re.compile(
    r"(?i)\b\w*(?:colour|centre|licence|catalogue|labelled|behaviour|neighbour|artefact|grey\b"
    r"|(?:normal|optim|initial|summar|synchron|parameter|sanit|random|quant|regular|synthe)is(?:e|ing|ation))\w*"
)
IDIOMS = {
    "a docstring that opens with a headless clause": re.compile(
        r'"""(?:What|Which|Who|Whose|Where|How|Whether|When)\b'
    ),
    "'tell' where a program reports, prints, logs or raises": re.compile(r"(?i)\b(?:tells?|told|telling)\b"),
    "'is no X' or 'is none'": re.compile(r"\b(?:is|are|was|were) (?:no|none)\b"),
    "'wish' for a request": re.compile(r"(?i)\bwish(?:es|ed)?\b"),
    "'go on' for continue or resume": re.compile(r"(?i)\b(?:go|goes|going|went|gone) on\b"),
}
OLD_NAMES = {
    "initialisation", "is_labelled", "labelled", "reparameterise", "unlabelled", "unlabelled_image", "weights_licence",
}  # fmt: skip
"""Public names of the first version, which documents, answers and files of this API version still have."""
MAX_IDIOMS = 15
"""Hits per 10,000 lines; the words also have a literal meaning."""


def lines() -> Iterator[tuple[Path, int, str]]:
    """Yield every line that people write, but for this file, which quotes what it looks for."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    for name in listing.splitlines():
        path = Path(name)
        if path.suffix in SUFFIXES and path.name != Path(__file__).name and (ROOT / path).is_file():
            text = (ROOT / path).read_text("utf-8")
            yield from ((path, number, line) for number, line in enumerate(text.splitlines(), start=1))


def test_spelling_is_american() -> None:
    hits = [(path, number, hit.group()) for path, number, line in lines() for hit in BRITISH.finditer(line)]
    assert [f"{path}:{number}: {word}" for path, number, word in hits if word not in OLD_NAMES] == []


def test_idioms_of_this_project_are_rare() -> None:
    everything = list(lines())
    hits = [
        f"{path}:{number}: {title}"
        for path, number, line in everything
        for title, pattern in IDIOMS.items()
        if pattern.search(line)
    ]
    assert 1e4 * len(hits) / len(everything) <= MAX_IDIOMS, "\n".join(hits)


@pytest.mark.parametrize("text", ["the colour of", "normalised", "unlabelled", "the licence", "Grey images"])
def test_british_spelling_is_recognized(text: str) -> None:
    assert BRITISH.search(text)


@pytest.mark.parametrize("text", ["the color of", "normalized", "a list is", "precise", "raised", "greyhound"])
def test_american_spelling_is_accepted(text: str) -> None:
    assert not BRITISH.search(text)
