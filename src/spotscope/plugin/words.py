"""Sentences that name options of the command line, said in the words of the window."""

from __future__ import annotations

_FIELDS = {
    "--image": "the field Slide",
    "--spots": "the field Spots",
    "--labels": "the field Labels",
    "--mpp": "the field below",
    "--patient": "the field Patient",
    "--name": "the field Name",
    "--out": "the field Store",
    "--link": "the box Leave the slide",
}
_ELSEWHERE = (
    (", with --name", ""),
    (" (--mpp)", ""),
    (" (see `spotscope encoders`)", ""),
    ("without --link", "without leaving the slide where it is"),
    *((f"with {option}", "in Open") for option in ("--mpp", "--image", "--spots", "--labels")),
)


def in_fields(sentence: str) -> str:
    """Name the fields of Open where a sentence names the command line's options."""
    for option, field in _FIELDS.items():
        sentence = sentence.replace(f"with {option}", f"in {field}").replace(option, field)
    return sentence


def in_window(sentence: str) -> str:
    """Name what the window has where a sentence names the command line's options."""
    for said, instead in _ELSEWHERE:
        sentence = sentence.replace(said, instead)
    return sentence
