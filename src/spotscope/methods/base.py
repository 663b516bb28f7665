"""The method protocol: settings, training, prediction, and a model on disk."""

from __future__ import annotations

import dataclasses
import importlib
import warnings
from abc import ABC, abstractmethod
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spotscope.data.panels import PanelSettings, choose_panel, unknown_markers
from spotscope.data.prediction import Prediction
from spotscope.data.section import some
from spotscope.encoders.base import Encoder, get_encoder
from spotscope.errors import SpotScopeError
from spotscope.files import write_json, written_beside
from spotscope.methods.provenance import Provenance, now, versions
from spotscope.methods.reading import (
    ARRAYS,
    FORMAT,
    GENES,
    PROVENANCE,
    SETTINGS,
    Arrays,
    read_arrays,
    read_json,
    read_record,
)
from spotscope.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort
    from spotscope.data.places import Places

ENTRY_POINTS = "spotscope.methods"
# Imported when asked for: a method may stand on a heavy library.
OURS = {
    "mean": "spotscope.methods.mean:MeanMethod",
    "knn": "spotscope.methods.knn:KnnMethod",
    "ridge": "spotscope.methods.ridge:RidgeMethod",
    "linear": "spotscope.methods.anand_linear:LinearMethod",
    "lasso": "spotscope.methods.anand_linear:LassoMethod",
    "anand_ridge": "spotscope.methods.anand_linear:AnandRidgeMethod",
    "poisson": "spotscope.methods.anand_counts:PoissonMethod",
    "negative_binomial": "spotscope.methods.anand_counts:NegativeBinomialMethod",
    "mlp": "spotscope.methods.anand_networks:MlpMethod",
    "gnn": "spotscope.methods.anand_networks:GnnMethod",
    "clip": "spotscope.methods.clip:ClipMethod",
    "bleep": "spotscope.methods.bleep:BleepMethod",
    "mclstexp": "spotscope.methods.mclstexp:MclstexpMethod",
    "tpirbae": "spotscope.methods.tpirbae:TpirbaeMethod",
    "st_gchb": "spotscope.methods.st_gchb:StGchbMethod",
}


class MethodSettings(BaseModel):
    """What every method can be told; each method adds its own."""

    model_config = ConfigDict(extra="forbid")

    panel: PanelSettings = Field(
        default_factory=lambda: PanelSettings.model_validate({}),
        title="Genes",
        description="Which genes to learn, chosen on the training sections alone.",
    )
    seed: int = Field(
        default=0, ge=0, title="Seed", description="The same seed gives the same model again."
    )


class Method(ABC):
    """Learns expression from images of sections with spots, and predicts it anywhere.

    A method of a third party subclasses this, says `name`, `title`, `summary` and `Settings`,
    writes `learn`, `infer`, `arrays` and `restore`, and names its class as an entry point in the
    group `spotscope.methods`; the rest is done here.

    Parameters
    ----------
    settings
        Of the class `Settings`, a dict of them, or None for the defaults.
    encoder
        A spec for `get_encoder`, or an encoder.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    Settings: ClassVar[type[MethodSettings]] = MethodSettings
    uses_encoder: ClassVar[bool] = True

    def __init__(
        self,
        settings: MethodSettings | dict[str, Any] | None = None,
        encoder: str | Encoder = "auto",
    ) -> None:
        self.settings = self._checked_settings(settings)
        self.genes: list[str] = []
        self.provenance = Provenance(self.name, self.title)
        self.scores: dict[str, float] = {}
        self.notes: list[str] = []
        self._encoder = encoder

    # -- what a method writes ---------------------------------------------------------------

    @abstractmethod
    def learn(self, cohort: Cohort, validation: Cohort | None, progress: Progress) -> None:
        """Learn `self.genes` from the spots of `cohort`; may note `self.scores`, `self.notes`."""

    @abstractmethod
    def infer(
        self, places: Places, progress: Progress
    ) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
        """Return expression (n, G), log1p of counts per 10,000, and its standard deviation.

        The latter is (n, G), (n, 1) or None.
        """

    @abstractmethod
    def arrays(self) -> Arrays:
        """Return all that was learnt, as named arrays."""

    @abstractmethod
    def restore(self, arrays: Arrays) -> None:
        """Take back what `arrays` returned."""

    # -- what everyone calls ----------------------------------------------------------------

    @property
    def encoder(self) -> Encoder:
        """The image encoder, made when it is first needed."""
        if not isinstance(self._encoder, Encoder):
            self._encoder = get_encoder(self._encoder)
            self._check_encoder(self._encoder)
        return self._encoder

    def fit(
        self,
        cohort: Cohort,
        validation: Cohort | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from the sections of `cohort`.

        Parameters
        ----------
        cohort
            Training sections; the gene panel is chosen on them alone.
        validation
            Sections to choose settings on; without them a method splits `cohort` itself.
        progress
            Told what is being done.

        Raises
        ------
        SpotScopeError
            When the panel would be empty, or a section is in both cohorts.
        """
        if validation is not None and (twice := set(cohort.names) & set(validation.names)):
            raise SpotScopeError(
                f"Section '{min(twice)}' is both for training and for validation; leave it out of"
                " one of them."
            )
        self.genes = choose_panel(cohort, self.settings.panel)
        if validation is not None and (absent := set(self.genes) - set(validation.genes)):
            raise SpotScopeError(
                f"The validation sections do not measure '{min(absent)}'"
                f" ({len(absent)} genes of the panel in all); validate on other sections."
            )
        self.scores, self.notes = {}, []
        self.provenance = self._provenance(cohort)
        self.learn(cohort, validation, progress or Progress())
        if unknown := unknown_markers(cohort, self.settings.panel):
            self.notes.append(
                f"Not all sections measure {some(unknown)}, so the model does not predict"
                f" {'it' if len(unknown) == 1 else 'them'}."
            )
        known = set(cohort.patients) & set(validation.patients) if validation is not None else ()
        if known:
            self.notes.append(
                f"Patient {min(known)} was both trained and validated on, so the validation"
                " flatters; validate on other patients."
            )
        self.provenance.scores = {name: float(value) for name, value in self.scores.items()}
        self.provenance.notes = list(self.notes)
        return self

    def predict(self, places: Places, progress: Progress | None = None) -> Prediction:
        """Predict the expression of `self.genes` at `places`.

        The section's own counts, where it has any, are never looked at.
        """
        self._must_be_trained()
        expression, uncertainty = self.infer(places, progress or Progress())
        return Prediction(
            genes=list(self.genes),
            expression=np.asarray(expression, np.float32),
            uncertainty=None if uncertainty is None else np.asarray(uncertainty, np.float32),
            places=places,
            provenance=dataclasses.asdict(self.provenance),
        )

    def save(self, folder: str | Path) -> None:
        """Write the model to a folder: safetensors and JSON, nothing that could run code."""
        from safetensors.numpy import save_file

        self._must_be_trained()
        with written_beside(Path(folder)) as beside:
            beside.mkdir()
            arrays = {name: np.ascontiguousarray(value) for name, value in self.arrays().items()}
            save_file(arrays, beside / ARRAYS)
            write_json(beside / SETTINGS, self.settings.model_dump(mode="json"))
            write_json(beside / GENES, self.genes)
            record = {"format": FORMAT, **dataclasses.asdict(self.provenance)}
            write_json(beside / PROVENANCE, record)

    @classmethod
    def load(cls, folder: str | Path, encoder: str | Encoder | None = None) -> Self:
        """Read a model of this method from a folder.

        Parameters
        ----------
        folder
            That `save` wrote.
        encoder
            Where the encoder's weights now lie, when they have moved; they must be the same.

        Raises
        ------
        SpotScopeError
            When it is no model, of another method, of a newer version, or not whole.
        """
        folder = Path(folder)
        record = read_record(folder)
        if record["method"] != cls.name:
            raise SpotScopeError(
                f"The model in '{folder}' was made by the method '{record['method']}', not by"
                f" '{cls.name}'; load it with `load_method`."
            )
        try:
            provenance = Provenance.of_record(record)
            model = cls(read_json(folder, SETTINGS), encoder or provenance.encoder or "auto")
            model.provenance, model.scores = provenance, provenance.scores
            if isinstance(encoder, Encoder):
                model._check_encoder(encoder)
            model.genes = [str(gene) for gene in read_json(folder, GENES)]
            model.restore(read_arrays(folder))
        except (TypeError, KeyError, ValueError, IndexError, RuntimeError) as error:
            raise SpotScopeError(
                f"The model in '{folder}' is damaged ({error}); copy or train it again."
            ) from error
        return model

    # -- helpers ----------------------------------------------------------------------------

    @classmethod
    def _checked_settings(cls, settings: MethodSettings | dict[str, Any] | None) -> MethodSettings:
        if isinstance(settings, cls.Settings):
            return settings
        content = settings.model_dump() if isinstance(settings, BaseModel) else settings or {}
        try:
            return cls.Settings.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            known = ", ".join(cls.Settings.model_fields)
            raise SpotScopeError(
                f"The setting '{where}' of '{cls.name}' is not right: {first['msg']}"
                f" (its settings are {known})."
            ) from error

    def _check_encoder(self, encoder: Encoder) -> None:
        wanted = self.provenance.encoder_fingerprint
        if wanted and encoder.fingerprint != wanted:
            raise SpotScopeError(
                f"This model was trained with other weights of '{self.provenance.encoder}' than"
                f" '{encoder.name}' has now; use the ones it was trained with, or train it again."
            )

    def _must_be_trained(self) -> None:
        if not self.genes:
            raise SpotScopeError("The model is not trained yet; train it or load one first.")

    def _provenance(self, cohort: Cohort) -> Provenance:
        libraries = ["spotscope", "numpy", *(["torch"] if self.uses_encoder else [])]
        made = Provenance(
            self.name,
            self.title,
            training_sections=sorted(cohort.names),
            training_patients=list(cohort.patients),
            n_spots=cohort.n_spots,
            seed=self.settings.seed,
            versions=versions(libraries),
            created=now(),
        )
        return made.seen_through(self.encoder) if self.uses_encoder else made


def methods() -> dict[str, type[Method]]:
    """Return all methods by name: ours, and those that other packages add by entry point."""
    found = {name: _imported(path) for name, path in OURS.items()}
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in found:
            continue
        try:
            method = point.load()
        except Exception as error:  # noqa: BLE001 - a stranger's package must not take ours down
            warnings.warn(f"The method '{point.name}' cannot be used: {error}", stacklevel=2)
            continue
        if isinstance(method, type) and issubclass(method, Method):
            found[point.name] = method
        else:
            warnings.warn(
                f"The method '{point.name}' cannot be used: it is no Method.", stacklevel=2
            )
    return found


def get_method(name: str) -> type[Method]:
    """Return the method that is called `name`.

    Raises
    ------
    SpotScopeError
        When there is none.
    """
    if name in OURS:
        return _imported(OURS[name])
    found = methods()
    if name not in found:
        raise SpotScopeError(f"There is no method '{name}'; choose {', '.join(sorted(found))}.")
    return found[name]


def load_method(folder: str | Path, encoder: str | Encoder | None = None) -> Method:
    """Read a model of any method from a folder; see `Method.load`."""
    record = read_record(Path(folder))
    try:
        method = get_method(record["method"])
    except SpotScopeError as error:
        raise SpotScopeError(
            f"The model in '{folder}' was made by the method '{record['method']}', which is not"
            " installed here; install the package that adds it."
        ) from error
    return method.load(folder, encoder)


def _imported(path: str) -> type[Method]:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
