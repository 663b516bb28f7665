"""What is open and what is shown in one viewer; docks and scripts change it, layers follow.

No Qt and no napari: a test or a script drives it as a hand does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from psygnal import Signal

from spotscope.errors import SpotScopeError
from spotscope.plugin.annotating import Annotating
from spotscope.plugin.annotation_palette import Palette
from spotscope.plugin.colours import PERCENTILES
from spotscope.plugin.gene_search import resolve_gene
from spotscope.plugin.review_state import Review
from spotscope.plugin.subtype_state import Subtypes

if TYPE_CHECKING:
    from pathlib import Path

    from spotscope.annotate.document import AnnotationDocument
    from spotscope.data.runs import Run
    from spotscope.plugin.annotating import Tool
    from spotscope.plugin.opened import OpenSection

View = Literal["measured", "predicted", "error", "subtype", "predicted subtype"]
What = Literal[
    "sections",
    "section",
    "runs",
    "run",
    "gene",
    "view",
    "range",
    "model",
    "subtype runs",
    "subtypes",
    "review",
    "annotations",
    "annotator",
    "annotation class",
    "tool",
    "selection",
]

EDITED: tuple[What, ...] = ("annotations", "annotation class", "selection")
"""What is new of the annotations when another section is the active one."""


class Workspace:
    """The state that all docks of a viewer share.

    `changed` tells listeners what of `What` is new, all in one call, after everything is
    consistent; `subtypes` are the predicted ones that are shown, `annotations` labels, regions
    and classes. `search_asked` tells the list of genes to take the keyboard, `predict_asked`
    Predict to start, `pointed` over which spot the mouse is (an index, or None).
    """

    changed = Signal(frozenset)
    search_asked = Signal()
    predict_asked = Signal()
    pointed = Signal(object)

    def __init__(self) -> None:
        self.sections: list[OpenSection] = []
        self.section: OpenSection | None = None
        self.run: Run | None = None
        self.gene: str | None = None
        self.view: View = "measured"
        self._wished: View | None = None  # where the active section cannot show it
        self.model: Path | None = None
        self._percentiles: dict[str, tuple[float, float]] = {}
        self.subtypes = Subtypes(self)
        self.review = Review(self)
        self.colours = Palette()
        self.annotating = Annotating(self)

    def tell(self, *what: What) -> None:
        """Tell listeners what is new; for the parts of the workspace."""
        self.changed.emit(frozenset(what))

    # -- sections ---------------------------------------------------------------------------

    def add(self, opened: OpenSection) -> OpenSection:
        """Open a section and make it the active one; one that is open already is only shown.

        Returns
        -------
        The open section.
        """
        known = self.find(opened.key)
        if known is not None:
            self.activate(known)
            return known
        self.sections.append(opened)
        self._activate(opened, {"sections"})
        return opened

    def find(self, key: str) -> OpenSection | None:
        """Return the open section of that key."""
        return next((one for one in self.sections if one.key == key), None)

    def activate(self, opened: OpenSection) -> None:
        """Show another open section; gene and view stay where it has them.

        A view that it does not have comes back with a section that has it.
        """
        if opened is not self.section:
            self._activate(opened, set())

    def remove(self, opened: OpenSection) -> None:
        """Close a section."""
        if opened not in self.sections:
            return
        self.sections.remove(opened)
        self.annotating.release(opened)
        if opened is not self.section:
            self.changed.emit(frozenset({"sections"}))
        else:
            self._activate(self.sections[-1] if self.sections else None, {"sections"})

    def _activate(self, opened: OpenSection | None, what: set[What]) -> None:
        self.section = opened
        self.annotating.enter()
        self.run = opened.runs[0] if opened and opened.runs else None
        if self.gene is not None and self.gene not in self.genes:
            self.gene = None
        wished = self._wished or self.view
        possible = self.why_not(wished) is None
        self._wished = None if possible else wished
        self.view = wished if possible else self._first_view()
        if self.gene is None and self.annotating.is_open and self.view == "measured":
            self.view = "subtype"
        news: set[What] = {"section", "runs", "run", "gene", "view", "range"}
        self.changed.emit(frozenset(what | news | {"subtype runs", "subtypes", "review", *EDITED}))

    # -- runs -------------------------------------------------------------------------------

    def refresh_runs(self, show: str | None = None, opened: OpenSection | None = None) -> None:
        """Read a section's runs again, and show the one of that id.

        Parameters
        ----------
        show
            The run to show; None keeps the one that is shown, or takes the newest.
        opened
            The section; None takes the active one.
        """
        opened = opened or self._active()
        opened.read_runs()
        if opened is not self.section:
            return
        before = self.run.id if self.run else None
        newest = opened.runs[0].id if opened.runs else None
        self.changed.emit(frozenset({"runs"}))
        self.show_run(show or before or newest)

    def show_run(self, run_id: str | None) -> None:
        """Choose the run whose prediction and error are drawn.

        Raises
        ------
        SpotScopeError
            When the active section has no such run.
        """
        run = self._active().run(run_id)
        if run_id is not None and run is None:
            listed = ", ".join(one.id for one in self._active().runs) or "none"
            raise SpotScopeError(
                f"Section '{self._active().name}' has no prediction '{run_id}'; it has {listed}."
            )
        self.run = run
        what: set[What] = {"run"}
        if self.gene is not None and self.gene not in self.genes:
            self.gene = None
            what.add("gene")
        if self.why_not(self.view):
            self.view = self._first_view()
            what.add("view")
        self.changed.emit(frozenset(what))

    # -- models -----------------------------------------------------------------------------

    def show_model(self, folder: Path | None) -> None:
        """Choose the model that is predicted with and asked, by its folder."""
        if folder != self.model:
            self.model = folder
            self.changed.emit(frozenset({"model"}))

    # -- what is shown ----------------------------------------------------------------------

    @property
    def genes(self) -> list[str]:
        """Genes of the active section: measured ones, else those that the run predicts."""
        if self.section is None:
            return []
        if self.section.genes:
            return self.section.genes
        return sorted(self.run.genes, key=str.upper) if self.run else []

    def show_gene(self, gene: str, view: View | None = None) -> None:
        """Choose the gene that is drawn, by its symbol or another of its names.

        Raises
        ------
        SpotScopeError
            When the section has no such gene, or `view` cannot be shown.
        """
        name = resolve_gene(self.genes, gene)
        if name is None:
            raise SpotScopeError(
                f"Section '{self._active().name}' has no gene '{gene}'; search the list of its"
                f" {len(self.genes):,} genes."
            )
        before = self.gene, self.view
        self.gene = name
        wanted = view or (self._first_view() if "subtype" in self.view else self.view)
        reason = self.why_not(wanted)
        if reason and view is not None:
            self.gene = before[0]
            raise SpotScopeError(reason)
        self.view = self._first_view() if reason else wanted
        if view is not None:
            self._wished = None
        what: set[What] = set()
        if self.gene != before[0]:
            what |= {"gene", "range"}
        if self.view != before[1]:
            what.add("view")
        if what:
            self.changed.emit(frozenset(what))

    def show(self, view: View) -> None:
        """Choose between measured, predicted, error, subtype and predicted subtype.

        Raises
        ------
        SpotScopeError
            When there is nothing of that kind to show.
        """
        if view not in get_args(View):
            raise SpotScopeError(
                f"There is no view '{view}'; choose one of {', '.join(get_args(View))}."
            )
        if reason := self.why_not(view):
            raise SpotScopeError(reason)
        self._wished = None
        if view != self.view:
            self.view = view
            self.changed.emit(frozenset({"view"}))

    def show_values(self) -> None:
        """Go from subtypes back to the values of genes."""
        if "subtype" in self.view:
            self.view = self._first_view()
            self.changed.emit(frozenset({"view"}))

    def why_not(self, view: View) -> str | None:
        """Return why a view cannot be shown now, as a sentence, or None when it can."""
        if self.section is None:
            return "Open a section first."
        if view in ("predicted", "error") and self.run is None:
            return "There is no prediction of this section yet; make one in Predict."
        if view in ("measured", "error", "subtype") and not self.section.section.has_spots:
            return "This section is a slide alone, so nothing was measured on it."
        if view == "subtype" and self.section.subtypes is None:
            return "No spot of this section has a subtype."
        if view == "predicted subtype" and self.subtypes.run is None:
            return "No subtypes were predicted here yet; learn them from labels in Review."
        if view == "error" and not (self.run and self.run.has_spots):
            return "This run has no values at the spots, so there is no error to show."
        if view in ("predicted", "error") and self.gene is not None:
            assert self.run is not None
            if self.gene not in self.run.genes:
                return f"This run does not predict {self.gene}; choose one of its genes."
        return None

    def _first_view(self) -> View:
        if self.section is None:
            return "measured"
        views: tuple[View, ...] = ("measured", "predicted", "predicted subtype")
        return next((view for view in views if not self.why_not(view)), "predicted")

    def describe_spot(self, spot: int) -> str:
        """Say what is known of a spot: name, values of the gene, subtype."""
        section, run, gene = self._active(), self.run, self.gene
        parts = [str(section.section.barcodes[spot])]
        if gene is not None and section.measures(gene):
            parts.append(f"{gene} measured {section.measured(gene)[spot]:.2f}")
            if run is not None and run.has_spots and gene in run.genes:
                parts.append(f"predicted {section.predicted(run, gene)[spot]:.2f}")
        if section.subtypes is not None:
            names, codes = section.subtypes
            parts.append(names[codes[spot]] if codes[spot] >= 0 else "no subtype")
        return " · ".join(parts)

    def palette(self, classes: list[str]) -> dict[str, str]:
        """Return the colour of each class: `#rrggbb`, the same wherever it is shown."""
        return self.colours.colours(classes)

    # -- annotations ------------------------------------------------------------------------

    @property
    def annotations(self) -> AnnotationDocument | None:
        """The annotations of the active section, opened at the first call."""
        return self.annotating.document

    @property
    def annotator(self) -> str:
        """Whose hand edits."""
        return self.annotating.annotator

    @property
    def annotation_class(self) -> str | None:
        """The class that the tools give."""
        return self.annotating.classes.chosen

    @property
    def tool(self) -> Tool | None:
        """What the left button does on the slide; None moves the slide."""
        return self.annotating.tool

    # -- colour range -----------------------------------------------------------------------

    @property
    def percentiles(self) -> tuple[float, float]:
        """The percentiles that the colours of the gene span; remembered for each gene."""
        return self._percentiles.get(self.gene or "", PERCENTILES)

    def set_percentiles(self, low: float, high: float) -> None:
        """Choose the percentiles that the colours of the gene span.

        Raises
        ------
        SpotScopeError
            When they are not within 0 to 100, the lower one first.
        """
        if not 0 <= low < high <= 100:
            raise SpotScopeError("Choose two percentiles between 0 and 100, the lower one first.")
        if self.gene is not None and (low, high) != self.percentiles:
            self._percentiles[self.gene] = (low, high)
            self.changed.emit(frozenset({"range"}))

    def limits(self) -> tuple[float, float] | None:
        """Return the colour range that is shown now, or None when no gene is drawn."""
        if self.section is None or self.gene is None or "subtype" in self.view:
            return None
        if self.view == "error":
            assert self.run is not None
            return self.section.error_limits(self.gene, self.run, self.percentiles)
        return self.section.limits(self.gene, self.run, self.percentiles)

    def _active(self) -> OpenSection:
        if self.section is None:
            raise SpotScopeError("Open a section first.")
        return self.section

    def __repr__(self) -> str:
        names = [one.name for one in self.sections]
        return f"Workspace({names}, gene={self.gene!r}, view={self.view!r})"
