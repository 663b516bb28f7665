"""Subtypes told from counts: scANVI beside PCA and the commonest class, one patient held out.

Counts and labels of all 36 her2st sections (Andersson et al.), read from --data as they were
published. Each labelled patient's labels are hidden in turn and told again.

- counts seen: the space is learnt on the counts of everyone, the test patient as well (which is
  what completing the labels of a cohort means); one scVI serves all patients, and scANVI goes on
  from it for each patient with that patient's labels "Unknown";
- counts unseen: neither counts nor labels of the test patient are learnt from.

PCA (30 components of log1p of counts per 10,000) and scVI are classified by the same multinomial
logistic regression and by the 15 nearest spots; scANVI by its own classifier, and its space by the
same regression. "+ neighbours" averages the probabilities over the spots within 1.5 pitches.

    python benchmarks/scanvi_held_out.py --data her2st --out table.md [--device cuda]

Finished parts are kept beside the table, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from latent_space import Spots, choose_genes, fewer, log_counts, read_spots
from spotscope.files import write_json, written_beside
from spotscope.methods.latent import UNKNOWN, LatentSettings, LatentSpace, frozen

COMPONENTS, NEIGHBOURS, REACH_PITCHES = 30, 15, 1.5
Told = tuple[np.ndarray, np.ndarray]  # (K,) classes, (n, K) probabilities


@dataclass(frozen=True)
class Setting:
    """One way to learn a space.

    Attributes
    ----------
    choice
        Of the genes: the most variable over all spots, or within patients.
    centred
        Take each patient's mean off (PCA alone).
    seen
        Learn from the test patient's counts.
    """

    title: str
    kind: Literal["pca", "scvi", "scanvi"]
    seen: bool = True
    genes: int = 2000
    choice: Literal["pooled", "within"] = "pooled"
    centred: bool = False
    latent: LatentSettings = field(default_factory=lambda: LatentSettings(epochs=40))


def settings() -> list[Setting]:
    """Return the rows: as it comes, and what was tried to make it better."""
    plain = LatentSettings(epochs=40)
    mixed = replace(plain, likelihood="nb", dispersion="gene-batch")
    return [
        Setting("PCA", "pca"),
        Setting("PCA, genes variable within patients", "pca", choice="within"),
        Setting("PCA, within, each patient's mean off", "pca", choice="within", centred=True),
        Setting("scVI", "scvi", latent=plain),
        Setting("scANVI", "scanvi", latent=plain),
        Setting("scVI, within, nb, each patient", "scvi", choice="within", latent=mixed),
        Setting("scANVI, within, nb, each patient", "scanvi", choice="within", latent=mixed),
        Setting(
            "scANVI, the same, label weight 10",
            "scanvi",
            choice="within",
            latent=replace(mixed, label_weight=10.0),
        ),
        Setting(
            "scANVI, the same, label weight 500",
            "scanvi",
            choice="within",
            latent=replace(mixed, label_weight=500.0),
        ),
        Setting("PCA", "pca", seen=False),
        Setting("PCA, genes variable within patients", "pca", seen=False, choice="within"),
        Setting("scVI", "scvi", seen=False, latent=plain),
        Setting("scANVI", "scanvi", seen=False, latent=plain),
    ]


# -- spaces ----------------------------------------------------------------------------------


class Spaces:
    """Learns spaces, and keeps on disk what was learnt."""

    def __init__(self, spots: Spots, folder: Path) -> None:
        self.spots, self.folder = spots, folder

    def of(self, setting: Setting, held: str) -> tuple[np.ndarray, Told | None]:
        """Return (n, 30) all spots in the space for a held-out patient, and what scANVI tells."""
        if setting.kind == "pca":
            return self._pca(setting, held), None
        space = self._space(setting, held)
        genes = [int(gene) for gene in space.genes]
        means = space.encode(self.spots.counts[:, genes])[0]
        if setting.kind == "scvi":
            return means, None
        return means, (np.array(space.classes), space.tell(means))

    def _rows(self, setting: Setting, held: str) -> np.ndarray:
        """Return the spots that a space is learnt on."""
        everyone = np.ones(len(self.spots.patient), bool)
        return np.flatnonzero(everyone if setting.seen else self.spots.patient != held)

    def _pca(self, setting: Setting, held: str) -> np.ndarray:
        from sklearn.decomposition import PCA

        rows = self._rows(setting, held)
        genes = choose_genes(self.spots.of(rows), _genes_of(setting))
        values = np.asarray(log_counts(self.spots.counts)[:, genes].todense())
        if setting.centred:
            for patient in np.unique(self.spots.patient):
                mine = self.spots.patient == patient
                values[mine] -= values[mine].mean(axis=0)
        return PCA(COMPONENTS, random_state=0).fit(values[rows]).transform(values)

    def _space(self, setting: Setting, held: str) -> LatentSpace:
        who = "" if setting.kind == "scvi" and setting.seen else held
        path = self.folder / f"{_key(setting, len(self.spots.patient))}-{who or 'all'}"
        if (path / "latent.json").exists():
            return LatentSpace.load(path)
        start = time.monotonic()
        model, genes = self._scvi(setting, held)
        if setting.kind == "scanvi":
            from spotscope.methods.latent_training import learn_scanvi

            labels = self.spots.label[self._rows(setting, held)].copy()
            labels[self.spots.patient[self._rows(setting, held)] == held] = UNKNOWN
            model = learn_scanvi(model, labels, setting.latent)
        space = frozen(model, setting.kind, genes, setting.latent, [])  # type: ignore[arg-type]
        space.save(path)
        _say(f"{setting.title}, {held} held out: {time.monotonic() - start:.0f} s")
        return space

    def _scvi(self, setting: Setting, held: str) -> tuple[Any, list[str]]:
        """Return the scVI that scANVI goes on from, learnt or taken up again."""
        import torch
        from safetensors.torch import load_file, save_file

        from spotscope.methods.latent_training import bare_scvi, learn_scvi

        rows = self._rows(setting, held)
        train = self.spots.of(rows)
        latent = replace(setting.latent, label_weight=50.0, label_epochs=20)  # scVI has neither
        base = replace(setting, kind="scvi", title="", latent=latent)
        key = f"{_key(base, len(self.spots.patient))}-{'all' if setting.seen else held}-weights"
        path = self.folder / f"{key}.safetensors"
        genes = choose_genes(train, _genes_of(setting))
        counts = train.counts[:, genes]
        if path.exists():
            model = bare_scvi(counts, train.patient, latent)
            model.module.load_state_dict(load_file(path))
            model.is_trained_ = True
        else:
            start = time.monotonic()
            model = learn_scvi(counts, train.patient, latent)
            state = {k: v.contiguous().clone() for k, v in model.module.state_dict().items()}
            with written_beside(path) as beside:
                save_file(state, beside)
            _say(f"scVI for {setting.title}: {time.monotonic() - start:.0f} s")
        torch.set_num_threads(1)
        return model, [str(gene) for gene in genes]


def _genes_of(setting: Setting) -> Any:
    """Return what `choose_genes` looks at."""
    return argparse.Namespace(genes=setting.genes, choice=setting.choice)


def _key(setting: Setting, n_spots: int) -> str:
    """Return a name that changes with anything that changes the space."""
    told = asdict(setting)
    del told["title"]
    told["latent"].pop("device")
    told["spots"] = n_spots
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


# -- classifiers -----------------------------------------------------------------------------


def by_regression(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> Told:
    """Tell by logistic regression on standardised values, every class counting the same."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    ).fit(known, labels)
    return model.classes_, model.predict_proba(asked)


def by_neighbours(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> Told:
    """Tell by the nearest labelled spots."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(min(NEIGHBOURS, len(known))).fit(known, labels)
    return model.classes_, model.predict_proba(asked)


def around(spots: Spots, rows: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities of all spots, averaged over neighbours in their section, at `rows`."""
    from scipy.spatial import cKDTree

    found = np.empty((len(rows), probabilities.shape[1]))
    for section in np.unique(spots.section[rows]):
        here = np.flatnonzero(spots.section == section)
        tree = cKDTree(spots.place[here])
        for at in np.flatnonzero(spots.section[rows] == section):
            near = tree.query_ball_point(spots.place[rows[at]], REACH_PITCHES)
            found[at] = probabilities[here[near]].mean(axis=0)
    return found


def told_of(setting: Setting, held: str, spots: Spots, spaces: Spaces) -> dict[str, list[str]]:
    """Return by name of the classifier what is told of the held-out patient's labelled spots."""
    means, own = spaces.of(setting, held)
    known = spots.labelled & (spots.patient != held)
    rows = np.flatnonzero(spots.labelled & (spots.patient == held))
    tellers: dict[str, Told] = {
        "regression": by_regression(means[known], spots.label[known], means),
        "15 nearest": by_neighbours(means[known], spots.label[known], means),
    }
    if own is not None:
        tellers = {"its own": own, "regression": tellers["regression"]}
    found: dict[str, list[str]] = {}
    for name, (classes, probabilities) in tellers.items():
        found[name] = classes[probabilities[rows].argmax(axis=1)].tolist()
        smooth = around(spots, rows, probabilities)
        found[f"{name} + neighbours"] = classes[smooth.argmax(axis=1)].tolist()
    return found


# -- running ---------------------------------------------------------------------------------


def run(rows: list[Setting], spots: Spots, folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return what each row's classifiers tell of all labelled spots, patient by patient."""
    spaces, told = Spaces(spots, folder), {}
    for setting in rows:
        found: dict[str, list[str]] = {}
        for held in np.unique(spots.patient[spots.labelled]):
            path = folder / f"{_key(setting, len(spots.patient))}-{held}-told.json"
            if not path.exists():
                write_json(path, told_of(setting, str(held), spots, spaces))
            for name, labels in json.loads(path.read_text()).items():
                found.setdefault(name, []).extend(labels)
        told[_key(setting, len(spots.patient))] = found
        _say(f"{setting.title}: done")
    return told


def table(rows: list[Setting], spots: Spots, told: dict[str, dict[str, list[str]]]) -> str:
    """Return the Markdown table."""
    from spotscope.evaluate.subtypes import score_folds

    patients = np.unique(spots.patient[spots.labelled])
    order = np.concatenate(
        [np.flatnonzero(spots.labelled & (spots.patient == p)) for p in patients]
    )
    true, owner = spots.label[order], spots.patient[order]
    given: dict[str, Any] = {"commonest class of the others|": _commonest(true, owner)}
    for setting in rows:
        seen = "seen" if setting.seen else "unseen"
        for name, labels in told[_key(setting, len(spots.patient))].items():
            given[f"{setting.title}, {name}|{seen}"] = labels
    scores = score_folds(true, given, owner.tolist())
    head = ["told by", "test counts", "accuracy", "balanced", "macro-F1", *map(str, patients)]
    lines = [_row(head), _row(["---"] * len(head))]
    for key in given:
        title, seen = key.split("|")
        figures = [scores.value(key, m) for m in ("accuracy", "balanced_accuracy", "macro_f1")]
        each = [
            f"{scores.value(key, 'accuracy', p):.2f} / {scores.value(key, 'macro_f1', p):.2f}"
            for p in patients
        ]
        lines.append(_row([title, seen or "–", *(f"{v:.3f}" for v in figures), *each]))
    return "\n".join(
        [
            *lines,
            "",
            f"{len(spots.patient):,} spots of {len(np.unique(spots.section))} sections,"
            f" {len(true):,} labelled spots of {len(patients)} patients, {len(scores.classes)}"
            " classes. Means over held-out patients; the last columns are accuracy / macro-F1 of"
            " each. Macro-F1 is over all classes: one that a patient lacks counts 0.",
            "",
        ]
    )


def _commonest(true: np.ndarray, owner: np.ndarray) -> np.ndarray:
    found = np.empty(len(true), dtype=object)
    for patient in np.unique(owner):
        names, counts = np.unique(true[owner != patient], return_counts=True)
        found[owner == patient] = names[counts.argmax()]
    return found.astype(str)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with counts/ and labels/")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rows", help="numbers of the rows to do, such as 1,4,5; all without")
    parser.add_argument("--quick", action="store_true", help="few spots, genes and epochs: a try")
    parser.add_argument("--parts", type=Path, help="where finished parts are kept")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    spots, rows = read_spots(args.data), settings()
    if args.rows:
        rows = [rows[int(number) - 1] for number in args.rows.split(",")]
    few: dict[str, Any] = {"device": args.device}
    if args.quick:
        spots = fewer(spots)
        rows = [replace(row, genes=200) for row in rows]
        few |= {"epochs": 2, "label_epochs": 1}
    rows = [replace(row, latent=replace(row.latent, **few)) for row in rows]
    told = run(rows, spots, args.parts or args.out.with_suffix(".parts"))
    text = table(rows, spots, told)
    args.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
