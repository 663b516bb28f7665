"""The classes of the active section, as the annotators change them; no Qt, no napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from spotscope.annotate.vocabulary import SubtypeClass, Vocabulary
    from spotscope.plugin.annotating import Annotating
    from spotscope.plugin.workspace import Workspace

EXCLUDE = "exclude"
"""What the class of spots that are left out is called at first."""


class Classes:
    """The classes of the active section.

    Parameters
    ----------
    annotating
        Whose annotations.
    workspace
        Its `changed` tells `annotations` and `annotation class`.

    Attributes
    ----------
    chosen
        The class that the tools give; None lets the lasso only select.
    """

    def __init__(self, annotating: Annotating, workspace: Workspace) -> None:
        self._annotating = annotating
        self._workspace = workspace
        self.chosen: str | None = None
        self._keys: dict[str, int | None] = {}

    @property
    def listed(self) -> list[SubtypeClass]:
        """Classes of the active section, with the colours and keys that they have everywhere.

        Those of the other open sections follow: marking with one adds it here.
        """
        vocabulary = self._vocabulary()
        colours = self._workspace.palette(list(vocabulary.names))
        self._agree_on_keys(vocabulary)
        return [
            one.model_copy(update={"colour": colours[one.name], "key": self._keys[one.name]})
            for one in vocabulary.classes
        ]

    def learn_keys(self, before: Vocabulary, now: Vocabulary) -> None:
        """Take the keys that an edit of the classes has changed, on every section."""
        for one in now.classes:
            known = before.get(one.name)
            if known is not None and known.key != one.key:
                self._give_key(one.name, one.key)

    def _agree_on_keys(self, vocabulary: Vocabulary) -> None:
        """Let each class keep the key that it had first; where that is taken it gets another."""
        known = [one for one in vocabulary.classes if one.name in self._keys]
        new = [one for one in vocabulary.classes if one.name not in self._keys]
        reserved = {self._keys[one.name] for one in known}
        taken: set[int | None] = set()
        for one in [*known, *new]:
            key = self._keys.get(one.name, one.key)
            if key is not None and key in taken:
                key = next((k for k in range(1, 10) if k not in taken | reserved), None)
            taken.add(key)
            self._keys[one.name] = key

    def _give_key(self, name: str, key: int | None) -> None:
        for other, known in self._keys.items():
            if key is not None and known == key:
                self._keys[other] = None
        self._keys[name] = key

    def _vocabulary(self) -> Vocabulary:
        from spotscope.annotate.vocabulary import Vocabulary

        document = self._annotating.document
        if document is None:
            return Vocabulary()
        grown = document.vocabulary
        for other in self._annotating.others():
            for one in other.vocabulary.classes:
                exclude = one.exclude and grown.excluded is None
                grown = grown.with_class(one.name, exclude=exclude)
        return grown

    def choose(self, name: str | None) -> None:
        """Choose the class that the tools give; spots that are selected get it instead.

        Raises
        ------
        SpotScopeError
            When the section has no such class.
        """
        if name is not None and self._vocabulary().get(name) is None:
            raise SpotScopeError(f"There is no class '{name}'; add it first.")
        if name is not None and len(self._annotating.selected):
            self._annotating.mark(self._annotating.selected, name)
            self._annotating.select(())
        elif name != self.chosen:
            self.chosen = name
            self._workspace.tell("annotation class")

    def press_key(self, key: int) -> None:
        """Choose the class that has a number key, or give it to the spots that are selected.

        Raises
        ------
        SpotScopeError
            When no class has the key.
        """
        name = next((one.name for one in self.listed if one.key == key), None)
        if name is None:
            raise SpotScopeError(f"No class has the key {key}; add one in Annotate.")
        self.choose(name)

    def name_for_edit(self, name: str | None) -> str:
        """Return the class that an edit gives: `name`, or else the chosen one.

        Raises
        ------
        SpotScopeError
            When there is neither.
        """
        found = name or self.chosen
        if found is None:
            raise SpotScopeError("Choose a class in Annotate first, or add one.")
        return found

    def bring(self, name: str, group: str) -> None:
        """Add a class to the active section, if it is not there, as part of a larger step."""
        document = self._annotating.writable()
        if document.vocabulary.get(name) is None:
            known = self._vocabulary().get(name)
            exclude = known is not None and known.exclude
            document.set_vocabulary(self._with(name, exclude), f"Add class {name}", group=group)

    def add(self, name: str, *, exclude: bool = False) -> None:
        """Add a class, in the colour that it has on other sections, and choose it."""
        document, name = self._annotating.writable(), name.strip()
        if not name:
            raise SpotScopeError("A class needs a name.")
        if document.vocabulary.get(name) is None:
            document.set_vocabulary(self._with(name, exclude), f"Add class {name}")
        self.chosen = name
        self._workspace.tell("annotation class")

    def remove(self, name: str) -> None:
        """Remove a class and the labels that it has."""
        document = self._annotating.writable()
        if self.chosen == name:
            self.chosen = None
            self._workspace.tell("annotation class")
        document.set_vocabulary(document.vocabulary.without(name), f"Remove class {name}")

    def rename(self, old: str, new: str) -> None:
        """Call a class by another name, on this section."""
        new = new.strip()
        if new == old:
            return
        document = self._annotating.writable()
        self._workspace.colours.rename(old, new)
        self._keys[new] = self._keys.get(old)
        chosen = self.chosen == old
        document.rename_class(old, new)
        if chosen:
            self.chosen = new
            self._workspace.tell("annotation class")

    def recolour(self, name: str, colour: str) -> None:
        """Give a class another colour, on every section."""
        document = self._annotating.writable()
        self._workspace.colours.choose(name, colour)
        changed = document.vocabulary.changed(name, colour=colour.lower())
        if changed == document.vocabulary:
            self._annotating.refresh()
        document.set_vocabulary(changed, f"Colour of {name}")

    def set_key(self, name: str, key: int | None) -> None:
        """Give a class a number key, which it takes from the class that has it."""
        from spotscope.annotate.vocabulary import checked_vocabulary

        document = self._annotating.writable()
        self._give_key(name, key)
        classes = [
            one.model_copy(update={"key": key if one.name == name else None})
            if one.name == name or one.key == key
            else one
            for one in document.vocabulary.classes
        ]
        changed = checked_vocabulary(classes)
        if changed == document.vocabulary:
            self._annotating.refresh()
        document.set_vocabulary(changed, f"Key of {name}")

    def take(self, vocabulary: Vocabulary, source: str) -> None:
        """Add the classes of a file; their colours hold from now on."""
        document = self._annotating.writable()
        grown = document.vocabulary
        for one in vocabulary.classes:
            exclude = one.exclude and grown.excluded is None
            grown = grown.with_class(one.name, one.colour, exclude=exclude)
            grown = grown.changed(one.name, colour=one.colour)
            self._workspace.colours.choose(one.name, one.colour)
        document.set_vocabulary(grown, f"Classes of {source}")

    def _with(self, name: str, exclude: bool) -> Vocabulary:
        """Return the active section's classes and one more, in its colour and with its key."""
        self._agree_on_keys(self._vocabulary().with_class(name))
        key = self._keys[name]
        grown = self._annotating.writable().vocabulary
        taken = {one.key for one in grown.classes}
        grown = grown.with_class(name, self._colour(name), exclude=exclude)
        return grown if key in taken else grown.changed(name, key=key)

    def _colour(self, name: str) -> str | None:
        names = [one.name for one in self.listed]
        if name == EXCLUDE:
            return None  # the grey that says so
        return self._workspace.palette([*names, name])[name]
