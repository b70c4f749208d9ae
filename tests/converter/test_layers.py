"""Layer rules against a model's layers: the first that matches counts, and one for nothing is refused."""

from __future__ import annotations

import pytest

from converter.errors import RouteError
from converter.layers import Layer, assigned, layer_facts, read_layers
from converter.variants import LayerRule, Precision

LAYERS = (
    Layer(layer="stem", op="Conv", weight_bytes=64),
    Layer(layer="middle", op="Conv", weight_bytes=64),
    Layer(layer="head", op="Gemm", weight_bytes=32),
)


def test_the_first_rule_that_matches_counts() -> None:
    rules = (
        LayerRule(layer="stem", precision=Precision.FP32),
        LayerRule(op="Conv", precision=Precision.INT4_WEIGHTS),
    )
    assert assigned(LAYERS, rules, default=Precision.INT8) == {
        "stem": Precision.FP32,
        "middle": Precision.INT4_WEIGHTS,
        "head": Precision.INT8,
    }


def test_a_rule_matches_whole_names() -> None:
    rule = LayerRule(layer="ste|.*dle", precision=Precision.FP32)
    changed = {
        name
        for name, given in assigned(LAYERS, [rule], default=Precision.INT8).items()
        if given is Precision.FP32
    }
    assert changed == {"middle"}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            LayerRule(layer="heads", precision=Precision.FP32),
            "no layer of the model matches 'heads'; near it are head",
        ),
        (
            LayerRule(op="Convolution", precision=Precision.FP32),
            "no op of the model matches 'Convolution'; near it are Conv",
        ),
        (
            LayerRule(op="x+", precision=Precision.FP32),
            "no op of the model matches 'x+'; near it are Conv, Gemm",
        ),
    ],
)
def test_a_rule_that_matches_nothing_is_refused_with_names_near_it(rule: LayerRule, message: str) -> None:
    with pytest.raises(RouteError) as caught:
        assigned(LAYERS, [rule], default=Precision.INT8)
    assert str(caught.value) == message


def test_layers_survive_the_way_through_a_passes_facts() -> None:
    assert read_layers({"layers": layer_facts(LAYERS)}) == LAYERS
