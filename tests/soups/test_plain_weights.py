"""Test that any state dicts of plain tensors make a soup, without what sweeps need."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchvision.models import shufflenet_v2_x0_5

from soups.average import average
from soups.search import Ingredient, greedy
from tests.architecture import House
from tests.test_architecture import sources


def test_classifiers_of_torchvision_make_a_soup():
    """Of copies of one network with noise: the mean has less of it, and the odd one stays out."""
    torch.manual_seed(0)
    network = shufflenet_v2_x0_5(num_classes=3).eval()
    clean = {key: value.clone() for key, value in network.state_dict().items()}
    image = torch.rand(1, 3, 32, 32)
    wanted = network(image).detach()

    def noisy(share: float) -> dict[str, Tensor]:
        return {
            key: value * (1 + share * torch.randn(value.shape))
            if value.is_floating_point()
            else value
            for key, value in clean.items()
        }

    def score(weights: Mapping[str, Tensor]) -> float:
        network.load_state_dict(dict(weights))
        with torch.no_grad():
            return -float((network(image) - wanted).square().mean())

    copies = [noisy(0.02) for _ in range(4)] + [noisy(0.3)]
    pool = [
        Ingredient(str(number), str(number), score(weights), weights.copy)
        for number, weights in enumerate(copies)
    ]
    soup = greedy(pool, score)
    assert soup.score > max(ingredient.score for ingredient in pool)
    assert len(soup.ingredients) > 1
    assert "4" not in {ingredient.name for ingredient in soup.ingredients}
    taken = [copies[int(ingredient.name)] for ingredient in soup.ingredients]
    assert all(torch.equal(value, soup.weights[key]) for key, value in average(taken).items())


def test_average_and_greedy_import_neither_ray_nor_mlflow_nor_what_runs_sweeps():
    ours = {name: text for name, text in sources().items() if name.startswith("soups")}
    house, reached, todo = House(ours), set[str](), ["soups.search"]
    while todo:
        name = todo.pop()
        reached.add(name)
        todo += set(house.imports.get(name, ())) - reached
    assert {"soups.average", "soups.speculative", "torch"} <= reached
    assert not {name.split(".")[0] for name in reached} & {"ray", "mlflow", "orchestrator"}
