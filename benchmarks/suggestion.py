"""How many labels suggested annotation saves against random annotation, on the simulated study.

A simulated annotator labels spots of three patients in batches, by the truth; the classifier that
`spotscope subtypes train` makes (one layer on frozen `stain` features, classes balanced) learns
from them after each batch and tells every spot of the fourth patient. Which spots are labelled is
either drawn at random or asked of `spotscope.annotate.suggest`. Each patient is the test patient
in turn, and each is done for several draws; the mean macro-F1 is a study's learning curve, made
non-decreasing (isotonic regression) before it is asked how many labels reach a level.

With --on sections the slides in hand are completed instead: half of each patient's spots, drawn
once for each draw, are never labelled, and those are told.

    python benchmarks/suggestion.py --out table.md [--on sections] [--seeds 0 1 2 3 4 5 6 7 8 9]

The rule was chosen on the studies of seeds 100 to 104. Finished studies are kept beside the table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from spotscope.annotate.suggest import suggest_spots
from spotscope.evaluate.subtypes import subtype_scores
from spotscope.files import written_beside
from spotscope.methods.linear_head import fit_linear_head, softmax, standards
from spotscope.methods.subtype_settings import SubtypeSettings

BATCH, BUDGET, DRAWS = 10, 120, 5
LEVELS = (0.90, 0.95, 0.98, 1.00)
"""Shares of the macro-F1 that random annotation reaches with its whole budget."""
Rule = Literal["random", "suggested"]
On = Literal["patient", "sections"]


@dataclass(frozen=True)
class Study:
    """All labelled spots of a simulated study: features (n, d), subtypes and patients (n,)."""

    features: np.ndarray
    labels: np.ndarray
    patients: np.ndarray


def study(seed: int, folder: Path) -> Study:
    """Make a study of four patients with one section each, or take the one made before."""
    from spotscope.data.places import Places
    from spotscope.data.store import open_section
    from spotscope.encoders.base import get_encoder
    from spotscope.encoders.features import features
    from spotscope.jobs.study import make_study

    file = folder / f"{seed}.npz"
    if not file.exists():
        encoder, parts = get_encoder("stain"), []
        with tempfile.TemporaryDirectory() as work:
            for path in make_study(Path(work) / "study", seed, sections_per_patient=1):
                section = open_section(path)
                labels = section.labels
                assert labels is not None
                known = labels.codes >= 0
                parts.append(
                    (
                        features(Places.on_spots(section), encoder)[known],
                        np.asarray(labels, str)[known],
                        np.full(known.sum(), section.patient),
                    )
                )
        found = [np.concatenate(each) for each in zip(*parts, strict=True)]
        with written_beside(file) as beside, beside.open("wb") as handle:
            np.savez(handle, features=found[0], labels=found[1], patients=found[2])
        print(f"study {seed} made", file=sys.stderr, flush=True)
    with np.load(file) as kept:
        return Study(kept["features"], kept["labels"], kept["patients"])


def held_out(made: Study, on: On, draw: int) -> list[np.ndarray]:
    """Return which spots (n,) are never labelled: each patient's, or half of every patient's."""
    if on == "patient":
        return [made.patients == patient for patient in np.unique(made.patients)]
    return [np.random.default_rng([draw, 1]).random(len(made.patients)) < 0.5]


def curve(made: Study, test: np.ndarray, rule: Rule, draw: int) -> np.ndarray:
    """Return the macro-F1 on held-out spots after each batch of labels."""
    pool = ~test
    mean, scale = standards(made.features[pool])
    seen, asked = ((made.features[rows] - mean) / scale for rows in (pool, test))
    labels, true = made.labels[pool], made.labels[test]
    classes = [str(name) for name in np.unique(made.labels)]
    labelled = np.zeros(len(labels), bool)
    order = np.random.default_rng(draw).permutation(len(labels))
    told: np.ndarray | None = None
    scores = []
    while labelled.sum() < BUDGET:
        if rule == "random":
            labelled[order[: int(labelled.sum()) + BATCH]] = True
        else:
            labelled[suggest_spots(seen, told, labelled, BATCH, draw)] = True
        names, codes = np.unique(labels[labelled], return_inverse=True)
        if len(names) < 2:
            scores.append(0.0)
            continue
        weights = len(codes) / (len(names) * np.bincount(codes))
        head = fit_linear_head(seen[labelled], codes, weights, SubtypeSettings().decay)
        told = softmax(head.logits(seen))
        answer = names[head.logits(asked).argmax(axis=1)]
        scores.append(subtype_scores(true, answer, classes).macro_f1)
    return np.array(scores)


def curves(seed: int, on: On, folder: Path) -> dict[Rule, np.ndarray]:
    """Return a study's learning curves: means over held-out spots and draws."""
    file = folder / f"{seed}-curves-{on}-{BATCH}-{BUDGET}-{DRAWS}.npz"
    if not file.exists():
        made = study(seed, folder)
        rules: tuple[Rule, ...] = ("random", "suggested")
        found = {
            rule: np.mean(
                [
                    curve(made, test, rule, draw)
                    for draw in range(DRAWS)
                    for test in held_out(made, on, draw)
                ],
                axis=0,
            )
            for rule in rules
        }
        with written_beside(file) as beside, beside.open("wb") as handle:
            np.savez(handle, **found)
        print(f"study {seed} annotated", file=sys.stderr, flush=True)
    with np.load(file) as kept:
        return {"random": kept["random"], "suggested": kept["suggested"]}


def rising(scores: np.ndarray) -> np.ndarray:
    """Return the non-decreasing curve nearest to the scores."""
    from sklearn.isotonic import IsotonicRegression

    return IsotonicRegression().fit_transform(np.arange(len(scores)), scores)


def labels_for(level: float, scores: np.ndarray) -> float:
    """Return how many labels a rising curve needs for a level, between batches linearly."""
    counts = BATCH * np.arange(1, len(scores) + 1)
    at = int(np.searchsorted(scores, level - 1e-12))
    if at == len(scores):
        return float("inf")
    if at == 0:
        return float(counts[0])
    low, high = scores[at - 1], scores[at]
    return float(counts[at - 1] + BATCH * (level - low) / (high - low))


def table(seeds: list[int], on: On, folder: Path) -> str:
    """Return the Markdown tables."""
    lines = ["| labels | random | suggested |", "| --- | --- | --- |"]
    found = {seed: curves(seed, on, folder) for seed in seeds}
    means = {r: np.mean([found[s][r] for s in seeds], axis=0) for r in ("random", "suggested")}
    for number, pair in enumerate(zip(means["random"], means["suggested"], strict=True), 1):
        lines.append(f"| {BATCH * number} | {pair[0]:.3f} | {pair[1]:.3f} |")
    lines += ["", "| level | random needs | suggested needs | ratio, median | each study |"]
    lines.append("|" + " --- |" * 5)
    for share in LEVELS:
        needs = []
        for seed in seeds:
            random, asked = (rising(found[seed][r]) for r in ("random", "suggested"))
            level = share * random[-1]
            needs.append((labels_for(level, random), labels_for(level, asked)))
        ratios = [asked / random for random, asked in needs]
        random, asked = np.median(needs, axis=0)
        each = " ".join(f"{ratio:.2f}" for ratio in ratios)
        lines.append(
            f"| {share:.0%} | {random:.0f} | {asked:.0f} | {np.median(ratios):.2f} | {each} |"
        )
    lines += [
        "",
        f"{len(seeds)} studies (seeds {', '.join(map(str, seeds))}), {_HELD_OUT[on]},"
        f" {DRAWS} draws, batches of {BATCH}. Levels are shares of the macro-F1 that random"
        f" annotation reaches with {BUDGET} labels; needs are medians over studies.",
        "",
    ]
    return "\n".join(lines)


_HELD_OUT: dict[On, str] = {
    "patient": "4 patients held out in turn",
    "sections": "half of the spots of 4 patients held out",
}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--on", choices=("patient", "sections"), default="patient")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--parts", type=Path, help="where finished studies are kept")
    args = parser.parse_args()
    folder = args.parts or args.out.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)
    text = table(args.seeds, args.on, folder)
    args.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
