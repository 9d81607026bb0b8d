"""Hold the plan of the house by reading the code: who imports whom, what `-m` files hold."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = {  # a room imports its own files and rooms in later sets; rooms of one set do not meet
    "orchestrator": [
        {"commands"},
        {"pipeline"},
        {"reporting"},
        {"execution"},
        {"planning", "training", "tracking"},
        {"config"},
    ],
    "soups": [{"commands"}, {"recipe"}, {"sources"}, {"search"}, {"average"}],
    "vosmodels": [
        {"evaluation"},
        {"checkpoint"},
        {"inference", "registry", "calibration", "terms"},
        {"spacetime", "distillation", "losses", "data"},
        {"backbones"},
        {"support"},
        {"model"},
        {"types"},
        {"errors"},
    ],
}
PACKAGES = {  # what a package may import of another, besides the exceptions below
    "soups": {
        "orchestrator.execution.scoring",
        "orchestrator.tracking",
        "orchestrator.planning",
        "orchestrator.config",
        "vosmodels",
    },
    "orchestrator": {"vosmodels"},
    "vosmodels": set(),
}
EXCEPTIONS = {("orchestrator.pipeline", "soups.recipe")}
LIBRARIES = {  # heavy libraries, and the rooms that may name them
    "ray": {"orchestrator.execution"},
    "mlflow": {"orchestrator.tracking"},
    "matplotlib": {"orchestrator.reporting"},
    "cv2": {
        "orchestrator.training",
        "vosmodels.data",
        "vosmodels.evaluation",
        "vosmodels.inference",
    },
}


def modules():
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = ast.parse(path.read_text())
    assert len(found) > 80
    return found


MODULES = modules()


def imports(tree):
    """Full names of what a file imports, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield longer if longer in MODULES else node.module


IMPORTS = {name: sorted(set(imports(tree))) for name, tree in MODULES.items()}
OURS = {name: [o for o in others if o in MODULES] for name, others in IMPORTS.items()}


def runs_with_m(tree):
    return any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in tree.body
    )


COMMANDS = {name for name, tree in MODULES.items() if runs_with_m(tree)}


def room(name):
    """The package of a module and its room there: a folder, a file, or the commands on top."""
    package, _, rest = name.partition(".")
    if name in COMMANDS and rest.count(".") == 0:
        return package, "commands"
    return package, rest.partition(".")[0]


def floor(name):
    package, own = room(name)
    return next((n for n, rooms in enumerate(LAYERS[package]) if own in rooms), None)


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(PACKAGES)))
def test_a_module_imports_only_its_own_room_and_rooms_below(name):
    assert floor(name) is not None, f"{name} stands in no room of LAYERS"
    for other in OURS[name]:
        same_package = room(other)[0] == room(name)[0]
        if same_package and other not in PACKAGES and room(other) != room(name):
            assert floor(other) > floor(name), f"{name} imports {other}"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_package_imports_only_packages_below_it(name):
    package = room(name)[0]
    for other in OURS[name]:
        if room(other)[0] == package or (name, other) in EXCEPTIONS:
            continue
        allowed = PACKAGES[package]
        assert any(f"{other}.".startswith(f"{a}.") for a in allowed), f"{name} imports {other}"


def test_imports_have_no_circle():
    """A package's __init__ names its files; a file that names its own package means one of them."""
    graph = {
        name: {o for o in others if not name.startswith(f"{o}.")} for name, others in OURS.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_a_heavy_library_stays_in_its_rooms(library):
    users = {name for name, others in IMPORTS.items() if _uses(others, library)}
    strangers = {n for n in users if ".".join(room(n)) not in LIBRARIES[library]}
    assert not strangers, f"{library} in {strangers}"
    assert {".".join(room(n)) for n in users} == LIBRARIES[library]


def _uses(others, library):
    return any(other.split(".")[0] == library for other in others)


def test_errors_import_nothing():
    assert IMPORTS["vosmodels.errors"] == []


def test_models_know_no_command_line():
    for name, others in IMPORTS.items():
        if name.startswith("vosmodels") and name not in COMMANDS | {"vosmodels.support.cli"}:
            assert "argparse" not in others, name


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_what_runs_with_m_is_imported_by_nothing_and_logs_nothing(name):
    """Under -m it is `__main__`: a class would be pickled, and a logger named, by that name."""
    importers = {other for other, names in OURS.items() if name in names}
    assert not importers, f"{importers} import {name}"
    assert "logging" not in IMPORTS[name]
    assert not [n for n in ast.walk(MODULES[name]) if isinstance(n, ast.ClassDef)]
    calls = {n.attr for n in ast.walk(MODULES[name]) if isinstance(n, ast.Attribute)}
    assert not calls & {"submit", "map", "helpers", "dumps"}


def test_every_command_is_known():
    assert {"orchestrator.sweep", "soups.greedy", "vosmodels.data.check.__main__"} <= COMMANDS
    assert len(COMMANDS) >= 10


def test_no_text_names_a_path_of_this_machine():
    files = [p for p in ROOT.rglob("*") if p.suffix in {".py", ".md", ".yaml", ".toml", ".txt"}]
    files = [p for p in files if not {".venv", "results"} & set(p.relative_to(ROOT).parts)]
    assert len(files) > 50
    for path in files:
        assert str(ROOT.parent) + "/" not in path.read_text(), path
