"""Run many random sequences of edits, undo, redo, saves, full disks and kills; lose nothing.

    PYTHONPATH=src python3 benchmarks/annotation_sequences.py --sequences 10000 --stores 100

The sequences are those of `tests/annotate/test_sequences.py`: after each step everything is
compared with a model that keeps whole states. `--stores` of them save into a real section.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import ModuleType

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

TESTS = Path(__file__).parents[1] / "tests" / "annotate" / "test_sequences.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--stores", type=int, default=100)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    machines = tests()
    found = {"sequences": options.sequences, "stores": options.stores}
    with tempfile.TemporaryDirectory() as folder:
        machines.AnnotatingStore.template = small_store(Path(folder))
        for name, machine, number in (
            ("sequences", machines.Annotating, options.sequences),
            ("stores", machines.AnnotatingStore, options.stores),
        ):
            steps, kills, saves = counted(machine)
            start = time.perf_counter()
            run_state_machine_as_test(machine, settings=many(number, options.steps))
            found[f"{name}_s"] = round(time.perf_counter() - start, 1)
            found[f"{name}_steps"], found[f"{name}_kills"] = sum(steps), sum(kills)
            found[f"{name}_saves"] = sum(saves)
    found["lost"] = 0  # or an assertion has stopped the run and shown the sequence
    print(json.dumps(found))


def tests() -> ModuleType:
    """Return the test module, which is no package."""
    spec = importlib.util.spec_from_file_location("sequences", TESTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sequences"] = module
    spec.loader.exec_module(module)
    return module


def small_store(folder: Path) -> Path:
    """Simulate the smallest study and return one of its sections."""
    from spotscope.jobs.study import make_study

    return make_study(folder / "study", 0, n_patients=1, sections_per_patient=1)[0]


def counted(machine: type) -> tuple[list[int], list[int], list[int]]:
    """Have a machine count its steps, kills and saves."""
    lists: tuple[list[int], list[int], list[int]] = ([], [], [])
    for name, into in zip(("check", "die", "put"), lists, strict=True):
        setattr(machine, name, _counting(getattr(machine, name), into))
    return lists


def _counting(whole, into):  # type: ignore[no-untyped-def]
    def called(self, *arguments):  # type: ignore[no-untyped-def]
        into.append(1)
        return whole(self, *arguments)

    return called


def many(number: int, steps: int) -> settings:
    return settings(
        max_examples=number,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


if __name__ == "__main__":
    main()
