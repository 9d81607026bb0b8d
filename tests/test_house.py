"""Who may import whom, held by reading the code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("orchestrator", "soups", "vosmodels")

# From the top down: a module may import what stands in a later row, and nothing else of ours.
ROWS = [
    ["orchestrator.sweep", "orchestrator.table", "orchestrator.train"],
    ["orchestrator.experiment"],
    [
        "orchestrator.evaluate",
        "orchestrator.fetch",
        "orchestrator.report",
        "orchestrator.segment",
        "soups.greedy",
    ],
    ["orchestrator.figures", "orchestrator.presentation"],
    ["orchestrator.comparison"],
    ["orchestrator.forecast", "orchestrator.references", "orchestrator.preflight"],
    ["orchestrator.driver"],
    ["orchestrator.live", "orchestrator.results", "soups.search", "soups.sources"],
    ["soups.average", "orchestrator.workers"],
    ["orchestrator.job"],
    ["orchestrator.group", "orchestrator.plan", "orchestrator.evaluation"],
    ["orchestrator.loop", "orchestrator.tracking", "orchestrator.catalogue"],
    ["orchestrator.state"],
    ["orchestrator.gradients"],
    [
        "orchestrator.distill",
        "orchestrator.loader",
        "orchestrator.pace",
        "orchestrator.precision",
        "orchestrator.connection",
        "orchestrator.data",
        "orchestrator.placement",
        "orchestrator.resume",
    ],
    ["orchestrator.records"],
    ["orchestrator.ledger", "orchestrator.storage"],
    ["orchestrator.grid"],
    ["orchestrator.keys"],
    ["orchestrator.config"],
    ["orchestrator.stages", "orchestrator.complaints"],
    ["orchestrator.schema"],
    ["orchestrator.yamlfile"],
    ["vosmodels.evaluation.overlay", "vosmodels.evaluation.speed"],
    ["vosmodels.evaluation.speed_tables"],
    ["vosmodels.evaluation.timing"],
    ["vosmodels.scaled"],
    ["vosmodels.evaluation.runner", "vosmodels.inference"],
    ["vosmodels.evaluation.scores"],
    [
        "vosmodels.evaluation.annotations",
        "vosmodels.evaluation.boundary_errors",
        "vosmodels.evaluation.metrics",
        "vosmodels.evaluation.paired",
        "vosmodels.checkpoint",
        "vosmodels.folding",
    ],
    ["vosmodels.stripes"],
    ["vosmodels.registry", "vosmodels.calibration"],
    ["vosmodels.stcn", "vosmodels.mobilevos", "vosmodels.losses", "vosmodels.distillation"],
    ["vosmodels.spacetime"],
    ["vosmodels.graph"],
    ["vosmodels.propagator"],
    ["vosmodels.backbones", "vosmodels.memory", "vosmodels.decoder", "vosmodels.boundary"],
    ["vosmodels.data.static_clips", "vosmodels.data.check"],
    ["vosmodels.data.survey"],
    ["vosmodels.data.look"],
    [
        "vosmodels.data.davis",
        "vosmodels.data.youtubevos",
        "vosmodels.data.generated",
        "vosmodels.data.static_images",
        "vosmodels.data.thin_plate",
        "vosmodels.data.clips",
    ],
    ["vosmodels.data.meta", "vosmodels.data.offline"],
    ["vosmodels.data.folders", "vosmodels.data.augment"],
    ["vosmodels.data.masks", "vosmodels.data.images", "vosmodels.data.warp"],
    ["vosmodels.console"],
    [
        "vosmodels.types",
        "vosmodels.seeding",
        "vosmodels.files",
        "vosmodels.address",
        "vosmodels.processes",
    ],
]
WITHIN_A_ROW = {  # neighbours that may, in this one direction
    ("soups.sources", "soups.search"),
    ("orchestrator.ledger", "orchestrator.storage"),
}
COMMANDS = {  # of the models' own
    "vosmodels.console",
    "vosmodels.data.check",
    "vosmodels.evaluation.speed",
}
ONLY_IN = {
    "matplotlib": {"orchestrator.figures"},
    "ray": {"orchestrator.workers"},
    "mlflow": {"orchestrator.connection", "orchestrator.tracking", "orchestrator.catalogue"},
}


def modules():
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = ast.parse(path.read_text())
    assert len(found) > 40
    return found


MODULES = modules()
LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}


def imported(tree):
    """Full names of modules a file imports, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield longer if longer in MODULES else node.module


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(PACKAGES)))
def test_a_module_imports_only_what_stands_below_it(name):
    if not list(ast.iter_child_nodes(MODULES[name]))[1:]:
        pytest.skip("an empty package")
    assert name in LEVEL, f"{name} has no row"
    for other in imported(MODULES[name]):
        if other in MODULES and other not in PACKAGES and (name, other) not in WITHIN_A_ROW:
            assert LEVEL[other] > LEVEL[name], f"{name} imports {other}"


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_heavy_library_stays_in_its_room(library):
    users = {
        name
        for name, tree in MODULES.items()
        if any(other.split(".")[0] == library for other in imported(tree))
    }
    assert users <= ONLY_IN[library], f"{library} in {users - ONLY_IN[library]}"
    assert users, f"nobody uses {library}"


def test_models_know_no_command_line():
    for name, tree in MODULES.items():
        if name.startswith("vosmodels") and name not in COMMANDS:
            assert "argparse" not in set(imported(tree)), name


def test_every_row_names_modules_that_exist():
    assert set(LEVEL) <= set(MODULES)


def test_a_module_that_runs_with_m_holds_nothing_that_is_pickled():
    """Under -m its classes and functions would belong to __main__ in a worker."""
    text = (ROOT / "orchestrator" / "workers.py").read_text()
    assert "__main__" not in text


def test_no_tracked_text_names_a_path_of_this_machine():
    files = [p for p in ROOT.rglob("*") if p.suffix in {".py", ".md", ".yaml", ".toml", ".txt"}]
    files = [p for p in files if not {".venv", "results"} & set(p.relative_to(ROOT).parts)]
    assert len(files) > 50
    for path in files:
        assert str(ROOT.parent) + "/" not in path.read_text(), path
