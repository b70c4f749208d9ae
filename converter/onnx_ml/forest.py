"""Tree ensembles as arrays: read from the attributes of `TreeEnsembleClassifier` and `-Regressor`.

Every branch becomes "greater than the threshold goes right", the right child stands behind the left,
and a leaf is a branch that leads to itself: so one step of all trees is one look-up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.onnx_ml.emitting import Use

__all__ = ["Forest", "forest_of"]

_MAX_NODES = 2_000_000
_NEVER = np.finfo(np.float32).max
"""No finite number is greater, and none other reaches a device's model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """All trees, their nodes numbered through."""

    features: NDArray[np.int32]
    """Which column a node looks at."""
    thresholds: NDArray[np.float32]
    children: NDArray[np.int32]
    """The left child, whose successor is the right one; of a leaf itself."""
    values: NDArray[np.float32]
    """What a node adds to each score, [nodes, scores]; zeros for branches."""
    roots: NDArray[np.int32]
    certain: NDArray[np.bool_]
    """Of each score, whether some tree adds to it wherever it ends."""
    depth: int
    """Steps from a root to the farthest leaf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nodes:
    """The nodes as the attributes list them; children by position in the list."""

    modes: Sequence[str]
    features: Sequence[int]
    thresholds: NDArray[np.float32]
    true: NDArray[np.int64]
    false: NDArray[np.int64]
    roots: list[int]
    trees: Sequence[int]
    places: Mapping[tuple[int, int], int]


def forest_of(use: Use, *, weights: str, scores: int) -> Forest:
    """Read an ensemble.

    Args:
        use: The operator.
        weights: "class" or "target", as the attributes of its leaves begin.
        scores: How many scores it gives.

    Raises:
        OperatorRefusedError: A branch of a kind that has no equal, or attributes that do not fit together.
    """
    nodes = _nodes(use)
    order, depth = _order(use, nodes)
    rank = np.full(len(nodes.modes), -1, np.int64)
    rank[order] = np.arange(len(order))
    features = np.zeros(len(order), np.int32)
    thresholds = np.full(len(order), _NEVER, np.float32)
    children = np.arange(len(order), dtype=np.int32)
    for place, node in enumerate(order):
        if nodes.modes[node] != "LEAF":
            first, _, threshold = _branch(use, nodes, node)
            features[place], thresholds[place] = nodes.features[node], threshold
            children[place] = rank[first]
    values = np.zeros((len(order), scores), np.float32)
    told = np.zeros((len(order), scores), bool)
    for tree, node, score, weight in _leaves(use, weights):
        where = nodes.places.get((tree, node))
        if where is None or not 0 <= score < scores:
            use.refuse("a leaf's weight belongs to no node or no score")
        values[rank[where], score] += weight
        told[rank[where], score] = True
    return Forest(
        features=features,
        thresholds=thresholds,
        children=children,
        values=values,
        roots=rank[nodes.roots].astype(np.int32),
        certain=_certain(told, children, [nodes.trees[node] for node in order]),
        depth=depth,
    )


def _nodes(use: Use) -> _Nodes:
    trees, ids = use.attr("nodes_treeids", ()), use.attr("nodes_nodeids", ())
    modes = [mode.decode() for mode in use.attr("nodes_modes", ())]
    features = use.attr("nodes_featureids", ())
    true, false = use.attr("nodes_truenodeids", ()), use.attr("nodes_falsenodeids", ())
    lengths = {len(item) for item in (trees, ids, modes, features, true, false)}
    thresholds = _thresholds(use)
    if lengths != {len(thresholds)} or not modes:
        use.refuse("its nodes' attributes differ in length")
    if len(modes) > _MAX_NODES:
        use.refuse(f"{len(modes)} nodes, at most {_MAX_NODES} are read")
    places = {key: index for index, key in enumerate(zip(trees, ids, strict=True))}
    if len(places) != len(modes):
        use.refuse("two of its nodes have the same number")

    def positions(children: Sequence[int]) -> NDArray[np.int64]:
        return np.array([places.get(key, -1) for key in zip(trees, children, strict=True)], np.int64)

    firsts = {tree: places[tree, node] for tree, node in reversed(list(zip(trees, ids, strict=True)))}
    return _Nodes(
        modes=modes,
        features=features,
        thresholds=thresholds,
        true=positions(true),
        false=positions(false),
        roots=[firsts[tree] for tree in dict.fromkeys(trees)],
        trees=trees,
        places=places,
    )


def _certain(told: NDArray[np.bool_], children: NDArray[np.int32], trees: Sequence[int]) -> NDArray[np.bool_]:
    leaves = children == np.arange(len(children))
    silent = {tree: np.zeros(told.shape[1], bool) for tree in dict.fromkeys(trees)}
    for tree, row in zip(np.asarray(trees)[leaves].tolist(), told[leaves], strict=True):
        silent[tree] |= ~row
    everywhere: NDArray[np.bool_] = ~np.logical_and.reduce(list(silent.values()))
    return everywhere


def _thresholds(use: Use) -> NDArray[np.float32]:
    doubles = use.attr("nodes_values_as_tensor")
    if doubles is None:
        return np.asarray(use.attr("nodes_values", ()), np.float32)
    from onnx import numpy_helper  # noqa: PLC0415 - ensembles of doubles are rare

    exact = numpy_helper.to_array(doubles).astype(np.float64)
    rounded = exact.astype(np.float32)
    # Downwards: an FP32 value is at most the double just if it is at most the FP32 below it.
    down = np.nextafter(rounded, np.float32(-np.inf))
    lowered: NDArray[np.float32] = np.where(rounded.astype(np.float64) > exact, down, rounded)
    return lowered


def _branch(use: Use, nodes: _Nodes, node: int) -> tuple[int, int, np.float32]:
    """Left and right child, and the threshold beyond which it goes right."""
    threshold = nodes.thresholds[node]
    below = np.nextafter(threshold, np.float32(-np.inf))
    yes, no = int(nodes.true[node]), int(nodes.false[node])
    ways = {
        "BRANCH_LEQ": (yes, no, threshold),
        "BRANCH_LT": (yes, no, below),
        "BRANCH_GT": (no, yes, threshold),
        "BRANCH_GTE": (no, yes, below),
    }
    mode = nodes.modes[node]
    if mode not in ways:
        use.refuse(f"a node of mode {mode}")
    return ways[mode]


def _order(use: Use, nodes: _Nodes) -> tuple[list[int], int]:
    """Every node reached, level by level, siblings side by side; and the number of levels below the roots."""
    level, order, depth = list(nodes.roots), list(nodes.roots), 0
    while True:
        below: list[int] = []
        for node in level:
            if nodes.modes[node] == "LEAF":
                continue
            left, right, _ = _branch(use, nodes, node)
            if left < 0 or right < 0:
                use.refuse("a branch leads to a node that is not there")
            below += (left, right)
        if not below:
            return order, depth
        order += below
        if len(order) > len(nodes.modes):
            use.refuse("a node is the child of two")
        level, depth = below, depth + 1


def _leaves(use: Use, weights: str) -> Any:  # noqa: ANN401 - rows of four
    numbers = [use.attr(f"{weights}_{kind}", ()) for kind in ("treeids", "nodeids", "ids")]
    tensor = use.attr(f"{weights}_weights_as_tensor")
    if tensor is None:
        amounts = use.floats(f"{weights}_weights")
    else:
        from onnx import numpy_helper  # noqa: PLC0415

        amounts = numpy_helper.to_array(tensor).astype(np.float32)
    if {len(item) for item in numbers} != {len(amounts)}:
        use.refuse("its leaves' attributes differ in length")
    return zip(*numbers, amounts, strict=True)
