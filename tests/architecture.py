"""List the modules that break a rule of the layout, from {module: source}."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

LAYERS: Mapping[str, list[set[str]]] = {
    # A room imports its own files and rooms in later sets; rooms of one set do not meet.
    "orchestrator": [
        {"commands"},
        {"pipeline", "dry_run", "one_job"},
        {"prepared", "outcome"},
        {"reporting"},
        {"execution"},
        {"planning", "training", "tracking"},
        {"config"},
    ],
    "soups": [
        {"commands"},
        {"replay", "worth"},
        {"recipe"},
        {"records"},
        {"sources", "select_scores", "thinning", "probe"},
        {"geometry", "guards", "bagging"},
        {"search", "recalibration"},
        {"speculative"},
        {"scoring"},
        {"average", "order"},
    ],
    "vosmodels": [
        {"evaluation"},
        {"export"},
        {"checkpoint"},
        {"inference", "registry", "calibration", "terms", "training_kernels"},
        {"spacetime", "aot", "distillation", "losses", "data"},
        {"backbones", "demo"},
        {"support"},
        {"model"},
        {"types", "memory_rule"},
        {"errors"},
    ],
}
PACKAGES: Mapping[str, set[str]] = {
    # What a package may import of another, besides the exceptions below.
    "soups": {
        "orchestrator.execution.scoring",
        "orchestrator.execution.worker_pool",
        "orchestrator.tracking",
        "orchestrator.planning",
        "orchestrator.config",
        "orchestrator.reporting.sweep_figures",
        "vosmodels",
    },
    "orchestrator": {"vosmodels"},
    "vosmodels": set(),
}
EXCEPTIONS = {("orchestrator.pipeline", "soups.recipe")}
LIBRARIES = {  # heavy libraries, and the rooms that may name them
    "ray": {"orchestrator.execution"},
    "mlflow": {"orchestrator.tracking"},
    "matplotlib": {"orchestrator.reporting", "soups.worth"},
    "cv2": {
        "orchestrator.training",
        "vosmodels.data",
        "vosmodels.evaluation",
        "vosmodels.inference",
    },
}
ERRORS = "vosmodels.errors"
PARSERS = "vosmodels.support.cli"  # gives commands their parser
PICKLING = {"submit", "map", "helpers", "dumps"}  # what sends a function to another process
OTHER_TESTS = {  # folders of tests that are about no single room
    "benchmarks",
    "commands",  # the files on top of orchestrator
    "conformance",
    "fuzz",
    "integration",
    "models",  # the files on top of vosmodels
}


class House:
    """Modules by their full names, a package by its own, as parsed sources."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.trees = {name: ast.parse(source) for name, source in sources.items()}
        self.commands = {name for name, tree in self.trees.items() if _runs_with_m(tree)}

    @cached_property
    def imports(self) -> Mapping[str, list[str]]:
        """Full names of what each module imports, wherever in the file."""
        return {name: sorted(set(self._imports(name))) for name in self.trees}

    @cached_property
    def ours(self) -> Mapping[str, list[str]]:
        """Imports among the modules of the house, by module."""
        return {
            name: [other for other in others if other in self.trees]
            for name, others in self.imports.items()
        }

    def _imports(self, name: str) -> Iterator[str]:
        for node in ast.walk(self.trees[name]):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                source = self._source(name, node)
                for alias in node.names:
                    longer = f"{source}.{alias.name}"
                    yield longer if longer in self.trees else source

    def _source(self, name: str, node: ast.ImportFrom) -> str:
        """Resolve the module that a `from` names, dots included."""
        if not node.level:
            return node.module or ""
        package = any(other.startswith(f"{name}.") for other in self.trees)
        parts = name.split(".")[: None if package else -1]
        parts = parts[: len(parts) - node.level + 1]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def room(self, name: str) -> tuple[str, str]:
        """The package of a module and its room there: a folder, a file, or the commands on top."""
        package, _, rest = name.partition(".")
        if name in self.commands and "." not in rest:
            return package, "commands"
        return package, rest.partition(".")[0]

    def floor(self, name: str) -> int | None:
        """The place of a module's set in LAYERS, 0 on top; None in no set."""
        package, own = self.room(name)
        return next((n for n, rooms in enumerate(LAYERS[package]) if own in rooms), None)


def _runs_with_m(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in tree.body
    )


def homeless(house: House) -> list[str]:
    """Modules in no room of LAYERS."""
    return [name for name in house.trees if name not in PACKAGES and house.floor(name) is None]


def upward(house: House) -> list[str]:
    """Imports of a room above, or of another room in the same set."""
    problems = []
    for name, others in house.ours.items():
        floor = house.floor(name)
        for other in others:
            package, room = house.room(other)
            own_package, own = house.room(name)
            if package != own_package or room == own or not own or not room:
                continue
            below = house.floor(other)
            if floor is not None and below is not None and below <= floor:
                problems.append(f"{name} imports {other}")
    return problems


def foreign(house: House) -> list[str]:
    """Imports of another package that PACKAGES does not allow."""
    return [
        f"{name} imports {other}"
        for name, others in house.ours.items()
        for other in others
        if house.room(other)[0] != house.room(name)[0]
        and (name, other) not in EXCEPTIONS
        and not _within(other, PACKAGES[house.room(name)[0]])
    ]


def _within(name: str, folders: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{folder}.") for folder in folders)


def circle(house: House) -> list[str]:
    """The modules of a circle of imports, if there is one.

    A package's __init__ names its files; a file that names its own package means one of them.
    """
    graph = {
        name: {other for other in others if not name.startswith(f"{other}.")}
        for name, others in house.ours.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def users(house: House, library: str) -> dict[str, str]:
    """Modules that import a library, with their rooms as PACKAGE.ROOM."""
    return {
        name: ".".join(house.room(name))
        for name, others in house.imports.items()
        if any(other.split(".")[0] == library for other in others)
    }


def strangers(house: House) -> list[str]:
    """Imports of a heavy library outside its rooms."""
    return [
        f"{name} imports {library}"
        for library, rooms in LIBRARIES.items()
        for name, room in users(house, library).items()
        if room not in rooms
    ]


def burdened_errors(house: House) -> list[str]:
    """List the imports of the module of errors, which must have none."""
    return list(house.imports.get(ERRORS, []))


def parsing_models(house: House) -> list[str]:
    """Modules of vosmodels that parse a command line and are no commands."""
    return [
        name
        for name, others in house.imports.items()
        if name.startswith("vosmodels") and name not in house.commands | {PARSERS}
        if "argparse" in others
    ]


def burdened_commands(house: House) -> list[str]:
    """List what modules that run with -m do and must not.

    Under -m the module is called `__main__`: its classes and functions would be pickled, and its
    loggers named, by that name, and a module that imports it would load it a second time.
    """
    problems = []
    for name in sorted(house.commands):
        nodes = list(ast.walk(house.trees[name]))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names |= {node.id for node in nodes if isinstance(node, ast.Name)} - {"map"}  # the builtin
        problems += [f"{name} calls {word}" for word in sorted(names & PICKLING)]
        problems += [
            f"{name} defines {node.name}" for node in nodes if isinstance(node, ast.ClassDef)
        ]
        if "logging" in house.imports[name]:
            problems.append(f"{name} imports logging")
        problems += [
            f"{other} imports {name}" for other, others in house.ours.items() if name in others
        ]
    return problems


def unmirrored(tests: Iterable[str], rooms: Iterable[str]) -> list[str]:
    """Folders of tests that mirror no room, and rooms that are folders without tests."""
    tests, rooms = set(tests), set(rooms)
    return [f"tests/{name} mirrors no room" for name in sorted(tests - rooms - OTHER_TESTS)] + [
        f"tests/{name} is missing" for name in sorted((rooms | OTHER_TESTS) - tests)
    ]
