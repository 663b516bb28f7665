"""How far a latent space of spots loses the patient and keeps the subtype, by its settings.

Counts and labels of all 36 her2st sections (Andersson et al.), read from --data as they were
published: counts/<section>.tsv.gz and labels/<section>.tsv. For each setting one space is learnt
on all patients and one without each labelled patient, and three questions are put to a classifier
of the 15 nearest spots:

- the patient of held-out spots, and of held-out sections (low is good: the patient is lost);
- the subtype of a held-out patient's spots, in the space that was learnt with that patient's
  counts (never the labels);
- the same in the space that was learnt without the patient: what a new patient gets.

    python benchmarks/latent_space.py --data her2st --out table.md [--device cuda --workers 8]

Finished parts are kept beside the table, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import sparse

from spotscope.errors import SpotScopeError
from spotscope.files import write_json
from spotscope.methods.latent import UNKNOWN, LatentSettings, frozen

NEIGHBOURS = 15
COMPONENTS = 30
UNDETERMINED = "undetermined"
BEFORE = (
    "A plain run before this one (2,000 genes, 40 epochs): patient accuracy 0.993 for PCA and"
    " 0.722 for scVI, held-out-patient subtype accuracy / macro-F1 0.463 / 0.233 and"
    " 0.478 / 0.208."
)


@dataclass(frozen=True)
class Spots:
    """All spots with their counts (n, G); labels are "Unknown" where there is none.

    `place` (n, 2) is the spot's position on the array, in pitches.
    """

    counts: sparse.csr_matrix
    patient: np.ndarray
    section: np.ndarray
    label: np.ndarray
    place: np.ndarray

    def of(self, rows: np.ndarray) -> Spots:
        """Return some of them."""
        return Spots(
            self.counts[rows],
            self.patient[rows],
            self.section[rows],
            self.label[rows],
            self.place[rows],
        )

    @property
    def labelled(self) -> np.ndarray:
        """(n,) whether a spot has a label."""
        return self.label != UNKNOWN


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    title: str
    kind: Literal["pca", "centred", "scvi", "scanvi"]
    genes: int = 2000
    choice: Literal["pooled", "within"] = "pooled"
    latent: LatentSettings = field(default_factory=lambda: LatentSettings(epochs=40))
    encode_patient: bool = False
    told_patient: bool = True
    folds: bool = True  # learn it without each labelled patient, too


def settings() -> list[Setting]:
    """Return the rows: the plain run, one change of it at a time, and the changes together."""
    plain = LatentSettings(epochs=40)
    mixed = replace(plain, epochs=100, likelihood="nb", dispersion="gene-batch", kl_weight=2.0)
    changes: dict[str, dict[str, Any]] = {
        "KL weight 0.1 (where a warm-up of 400 epochs ends)": {"kl_weight": 0.1},
        "KL weight 4": {"kl_weight": 4.0},
        "dispersion of each gene and patient": {"dispersion": "gene-batch"},
        "negative binomial": {"likelihood": "nb"},
        "100 epochs": {"epochs": 100},
    }
    return [
        Setting("PCA of log counts", "pca"),
        Setting("PCA, genes variable within patients", "pca", choice="within"),
        Setting("PCA, each patient's mean taken off", "centred"),
        Setting("scVI, plain: 2,000 genes, 40 epochs", "scvi"),
        *(
            Setting(title, "scvi", latent=replace(plain, **change), folds=False)
            for title, change in changes.items()
        ),
        Setting("decoder not told the patient", "scvi", told_patient=False, folds=False),
        Setting("encoder told the patient too", "scvi", encode_patient=True, folds=False),
        Setting("500 genes", "scvi", genes=500, folds=False),
        Setting("5,000 genes", "scvi", genes=5000, folds=False),
        Setting("genes variable within patients", "scvi", choice="within", folds=False),
        Setting(
            "mixing: within, nb, each patient, KL 2, 100 epochs", "scvi", 2000, "within", mixed
        ),
        Setting("mixing, KL 4", "scvi", 2000, "within", replace(mixed, kl_weight=4.0)),
        Setting("scANVI, plain and 20 epochs with labels", "scanvi"),
        Setting("scANVI, label weight 500", "scanvi", latent=replace(plain, label_weight=500.0)),
        Setting("scANVI, mixing", "scanvi", 2000, "within", mixed),
    ]


# -- reading ---------------------------------------------------------------------------------


def read_spots(folder: Path) -> Spots:
    """Read all sections' counts of the genes that every section has, and the labels."""
    import pandas as pd

    tables, labels, sections, places = [], [], [], []
    for path in sorted((folder / "counts").glob("*.tsv.gz")):
        name = path.name.removesuffix(".tsv.gz")
        table = pd.read_csv(path, sep="\t", index_col=0)
        tables.append((table.columns, table.index, sparse.csr_matrix(table.to_numpy(np.float32))))
        labels.append(_labels(folder / "labels" / f"{name}.tsv", table.index))
        sections += [name] * len(table)
        places += [[float(at) for at in spot.split("x")] for spot in table.index]
    shared = set.intersection(*(set(columns) for columns, _, _ in tables))
    genes = [gene for gene in tables[0][0] if gene in shared]
    counts = sparse.vstack([m[:, columns.get_indexer(genes)] for columns, _, m in tables], "csr")
    section = np.array(sections)
    patient = np.array([name[0] for name in sections])
    spots = Spots(counts, patient, section, np.concatenate(labels), np.array(places))
    # The paper leaves patient A out; so do the held-out patients here.
    spots.label[spots.patient == "A"] = UNKNOWN
    return spots.of(np.asarray(counts.sum(axis=1)).ravel() > 0)


def _labels(path: Path, spots: Any) -> np.ndarray:
    import pandas as pd

    found = np.full(len(spots), UNKNOWN, dtype=object)
    if path.exists():
        table = pd.read_csv(path, sep="\t").dropna(subset=["x", "y", "label"])
        keys = [f"{round(x)}x{round(y)}" for x, y in zip(table.x, table.y, strict=True)]
        known = {k: v for k, v in zip(keys, table.label, strict=True) if v != UNDETERMINED}
        found = np.array([known.get(spot, UNKNOWN) for spot in spots], dtype=object)
    return found.astype(str)


def fewer(spots: Spots) -> Spots:
    """Return some spots of each section, for a try of the script."""
    rng = np.random.default_rng(0)
    keep = np.zeros(len(spots.patient), bool)
    for section in np.unique(spots.section):
        rows = np.flatnonzero(spots.section == section)
        keep[rng.choice(rows, min(40, len(rows)), replace=False)] = True
    return spots.of(np.flatnonzero(keep))


# -- spaces ----------------------------------------------------------------------------------


def log_counts(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return log1p of counts per 10,000."""
    scale = 1e4 / np.asarray(counts.sum(axis=1)).ravel()
    logged = sparse.diags(scale) @ counts
    logged.data = np.log1p(logged.data)
    return sparse.csr_matrix(logged)


def choose_genes(spots: Spots, setting: Setting) -> np.ndarray:
    """Return columns of the genes that vary most, over all spots or within patients."""
    logged = log_counts(spots.counts)
    groups = [np.arange(logged.shape[0])]
    if setting.choice == "within":
        groups = [np.flatnonzero(spots.patient == p) for p in np.unique(spots.patient)]
    variance = np.mean([_variance(logged[rows]) for rows in groups], axis=0)
    return np.sort(np.argsort(-variance, kind="stable")[: setting.genes])


def _variance(values: sparse.csr_matrix) -> np.ndarray:
    mean = np.asarray(values.mean(axis=0)).ravel()
    return np.asarray(values.multiply(values).mean(axis=0)).ravel() - mean**2


def embed(train: Spots, other: Spots | None, setting: Setting) -> tuple[np.ndarray, Any]:
    """Learn a space on `train`; return its spots there, and those of `other` if given."""
    genes = choose_genes(train, setting)
    if setting.kind in ("pca", "centred"):
        return _pca(train, other, genes, centred=setting.kind == "centred")
    # Imported here: the readers and PCA do without scvi-tools.
    from spotscope.methods.latent_training import train_latent_model

    told = train.patient if setting.told_patient else np.full(len(train.patient), "all")
    labels = train.label.copy() if setting.kind == "scanvi" else None
    counts = train.counts[:, genes]
    model = train_latent_model(
        counts, told, labels, setting.latent, encode_covariates=setting.encode_patient
    )
    if setting.encode_patient:
        return model.get_latent_representation(), None
    space = frozen(model, "scvi", [str(gene) for gene in genes], setting.latent, [])
    return space.encode(counts)[0], None if other is None else space.encode(
        other.counts[:, genes]
    )[0]


def _pca(train: Spots, other: Spots | None, genes: np.ndarray, *, centred: bool) -> Any:
    from sklearn.decomposition import PCA

    found = [np.asarray(log_counts(s.counts)[:, genes].todense()) for s in (train, other) if s]
    if centred:
        for values, spots in zip(found, (train, other), strict=False):
            for patient in np.unique(spots.patient):
                rows = spots.patient == patient
                values[rows] -= values[rows].mean(axis=0)
    pca = PCA(COMPONENTS, random_state=0).fit(found[0])
    made = [pca.transform(values) for values in found]
    return made[0], made[1] if other else None


# -- questions -------------------------------------------------------------------------------


def told_by_neighbours(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the commonest label among each asked spot's nearest known ones."""
    from sklearn.neighbors import KNeighborsClassifier

    k = min(NEIGHBOURS, len(known))
    return KNeighborsClassifier(k).fit(known, labels).predict(asked)


def patient_accuracy(values: np.ndarray, spots: Spots, by: Literal["spots", "sections"]) -> float:
    """Return how often the patient of held-out spots, or of held-out sections, is told."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if by == "spots":
        folds = StratifiedKFold(5, shuffle=True, random_state=0).split(values, spots.patient)
    else:
        grouped = StratifiedGroupKFold(3, shuffle=True, random_state=0)
        folds = grouped.split(values, spots.patient, spots.section)
    right = 0
    for known, asked in folds:
        told = told_by_neighbours(values[known], spots.patient[known], values[asked])
        right += int((told == spots.patient[asked]).sum())
    return right / len(values)


def subtype_scores(told: dict[str, np.ndarray], spots: Spots) -> dict[str, float]:
    """Return mean scores over held-out patients; a class that one lacks counts 0 in macro-F1."""
    from sklearn.metrics import f1_score

    classes = np.unique(spots.label[spots.labelled])
    rows = []
    for patient, labels in told.items():
        true = spots.label[spots.labelled & (spots.patient == patient)]
        given = np.asarray(labels)
        f1 = f1_score(true, given, labels=classes, average="macro", zero_division=0)
        recalls = [np.mean(given[true == name] == name) for name in np.unique(true)]
        rows.append((np.mean(true == given), f1, np.mean(recalls)))
    return dict(zip(("accuracy", "macro_f1", "balanced"), np.mean(rows, axis=0), strict=True))


# -- running ---------------------------------------------------------------------------------

SPOTS: Spots  # set before the workers are forked, so that each has it


def part(setting: Setting, held: str | None) -> dict[str, Any]:
    """Do one fit: on all patients, or without one whose subtypes are then told."""
    import torch

    torch.set_num_threads(1)
    spots, start = SPOTS, time.monotonic()
    if held is not None:
        train = spots.of(np.flatnonzero(spots.patient != held))
        other = spots.of(np.flatnonzero((spots.patient == held) & spots.labelled))
        known, asked = embed(train, other, setting)
        rows = train.labelled
        told = told_by_neighbours(known[rows], train.label[rows], asked)
        return {"told": told.tolist(), "seconds": time.monotonic() - start}
    values, _ = embed(spots, None, setting)
    found: dict[str, Any] = {
        by: patient_accuracy(values, spots, by) for by in ("spots", "sections")
    }
    if setting.kind != "scanvi":  # it was told the labels of everyone here
        rows, told = spots.labelled, {}
        for patient in np.unique(spots.patient[rows]):
            known, asked = rows & (spots.patient != patient), rows & (spots.patient == patient)
            told[patient] = told_by_neighbours(
                values[known], spots.label[known], values[asked]
            ).tolist()
        found["transductive"] = told
    return {**found, "seconds": time.monotonic() - start}


def run(rows: list[Setting], folder: Path, workers: int) -> dict[str, dict[str, Any]]:
    """Do all parts, or take those that were done before; return them by name."""
    patients = np.unique(SPOTS.patient[SPOTS.labelled])
    todo, done = {}, {}
    for setting in rows:
        folds = [str(p) for p in patients] if setting.folds else []
        for held in (None, *folds):
            name = f"{key(setting)}-{held or 'all'}"
            path = folder / f"{name}.json"
            if path.exists():
                done[name] = json.loads(path.read_text())
            else:
                todo[name] = (setting, held)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        waiting = {pool.submit(part, *job): name for name, job in todo.items()}
        for number, future in enumerate(as_completed(waiting), 1):
            name = waiting[future]
            setting, held = todo[name]
            try:
                done[name] = future.result()
            except SpotScopeError as error:  # its row shows what there is
                print(f"{setting.title}, without {held or 'nobody'}: {error}", file=sys.stderr)
                continue
            write_json(folder / f"{name}.json", done[name])
            print(
                f"{number}/{len(todo)} {setting.title}, without {held or 'nobody'}:"
                f" {done[name]['seconds']:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    return done


def key(setting: Setting) -> str:
    """Return a name that changes with anything that changes the result."""
    told = asdict(setting)
    del told["title"], told["folds"]
    told["latent"].pop("device")
    told["spots"] = len(SPOTS.patient)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def table(rows: list[Setting], done: dict[str, dict[str, Any]], device: str) -> str:
    """Return the Markdown table."""
    spots = SPOTS
    patients = np.unique(spots.patient[spots.labelled])
    head = (
        "| space (30 numbers a spot) | patient, held-out spots | patient, held-out sections"
        " | subtype: accuracy | macro-F1 | new patient: accuracy | macro-F1 | balanced |"
    )
    lines = [head, "|" + " --- |" * 8]
    commonest = {}
    for patient in patients:
        others = spots.label[spots.labelled & (spots.patient != patient)]
        names, counts = np.unique(others, return_counts=True)
        n = int((spots.labelled & (spots.patient == patient)).sum())
        commonest[str(patient)] = np.full(n, names[counts.argmax()])
    chance = np.unique(spots.patient, return_counts=True)[1].max() / len(spots.patient)
    scores = subtype_scores(commonest, spots)
    lines.append(_row("commonest class", chance, chance, scores, scores))
    for setting in rows:
        whole = done.get(f"{key(setting)}-all", {"spots": np.nan, "sections": np.nan})
        seen = whole.get("transductive")
        new = {str(p): done.get(f"{key(setting)}-{p}", {}).get("told") for p in patients}
        lines.append(
            _row(
                setting.title,
                whole["spots"],
                whole["sections"],
                subtype_scores(seen, spots) if seen else None,
                subtype_scores(new, spots) if all(v is not None for v in new.values()) else None,
            )
        )
    counted = (
        f"{len(spots.patient):,} spots of {len(np.unique(spots.section))} sections and"
        f" {len(np.unique(spots.patient))} patients, {spots.labelled.sum():,} labelled spots of"
        f" {len(patients)} patients. Subtype scores are means over held-out patients; in macro-F1"
        f" over all {len(np.unique(spots.label[spots.labelled]))} classes one that a patient lacks"
        f" counts 0. The {NEIGHBOURS} nearest spots decide. Computed on {device}."
    )
    return "\n".join([*lines, "", counted, "", BEFORE, ""])


def _row(title: str, by_spot: float, by_section: float, seen: Any, new: Any) -> str:
    cells = [title, f"{by_spot:.3f}", f"{by_section:.3f}"]
    for scores, names in (
        (seen, ("accuracy", "macro_f1")),
        (new, ("accuracy", "macro_f1", "balanced")),
    ):
        cells += [f"{scores[name]:.3f}" if scores else "–" for name in names]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with counts/ and labels/")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="fits at a time")
    parser.add_argument("--rows", help="numbers of the rows to do, such as 1,4,5; all without")
    parser.add_argument(
        "--all-folds", action="store_true", help="every row without each patient, too: long"
    )
    parser.add_argument("--quick", action="store_true", help="few spots, genes and epochs: a try")
    parser.add_argument("--parts", type=Path, help="where finished parts are kept")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    global SPOTS
    SPOTS = read_spots(args.data)
    rows = settings()
    if args.rows:
        rows = [rows[int(number) - 1] for number in args.rows.split(",")]
    if args.all_folds:  # a new patient cannot be encoded where the encoder wants to be told who
        rows = [replace(row, folds=not row.encode_patient) for row in rows]
    if args.quick:
        SPOTS = fewer(SPOTS)
        rows = [replace(row, genes=min(row.genes, 200)) for row in rows]
    rows = [
        replace(row, latent=replace(row.latent, device=args.device, **_few(args.quick)))
        for row in rows
    ]
    folder = args.parts or args.out.with_suffix(".parts")
    done = run(rows, folder, args.workers)
    text = table(rows, done, _device_name(args.device))
    args.out.write_text(text, encoding="utf-8")
    print(text)


def _few(quick: bool) -> dict[str, int]:
    return {"epochs": 2, "label_epochs": 1} if quick else {}


def _device_name(device: str) -> str:
    if device == "cpu":
        return "a CPU"
    import torch

    return torch.cuda.get_device_name()


if __name__ == "__main__":
    main()
