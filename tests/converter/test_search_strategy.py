"""The search in simulated worlds: it ends, repeats itself, and never ships what loses too much."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.goals import Goal, Prefer
from converter.proof.comparison import Estimate
from converter.proof.metrics import Metric
from converter.search.front import dominating, slower_than_float, why_not
from converter.search.strategy import Done, Examine, Make, best_first, least_bad, next_move
from converter.search.trials import Judged, LayerLoss, Space, Trial, cost
from converter.variants import Precision

BITS = {Precision.FP32: 32, Precision.INT8: 8, Precision.INT4_WEIGHTS: 4, Precision.INT8_WEIGHTS: 8}
RAISES = {
    Precision.INT8: Precision.FP32,
    Precision.INT8_WEIGHTS: Precision.FP32,
    Precision.INT4_WEIGHTS: Precision.INT8_WEIGHTS,
}
HARM = {Precision.FP32: 0.0, Precision.INT8: 1.0, Precision.INT4_WEIGHTS: 4.0, Precision.INT8_WEIGHTS: 0.5}


@dataclass(frozen=True)
class World:
    """A model whose layers' losses add up."""

    layers: tuple[tuple[int, float], ...]
    """Bytes in float, and the metric lost in eight bits."""

    def judge(self, trial: Trial) -> Judged:
        size, drop = 500.0, 0.0
        for index, (weight_bytes, lost) in enumerate(self.layers):
            raised = trial.to if f"layer{index}" in trial.raised else None
            precision = raised or trial.precision
            size += weight_bytes * BITS[precision] / 32
            drop += lost * HARM[precision]
        estimate = Estimate(value=drop, low=drop - 0.001, high=drop + 0.001)
        return Judged(trial=trial, size_bytes=round(size), drop=estimate, p50_us=round(10 + size / 100))

    def examine(self, precision: Precision) -> tuple[LayerLoss, ...]:
        return tuple(
            LayerLoss(layer=f"layer{index}", op="Conv", weight_bytes=size, loss=lost * HARM[precision])
            for index, (size, lost) in enumerate(self.layers)
        )


worlds = st.lists(st.tuples(st.integers(100, 100_000), st.floats(0.0, 0.02)), min_size=1, max_size=130).map(
    lambda layers: World(tuple(layers))
)
spaces = st.builds(
    Space,
    candidates=st.permutations(list(BITS)).flatmap(
        lambda order: st.integers(1, 4).map(lambda count: tuple(order[:count]))
    ),
    mixable=st.sampled_from([frozenset(RAISES), frozenset({Precision.INT8}), frozenset()]),
    raises=st.just(RAISES),
    losses=st.just({}),
    budget=st.floats(0.0, 0.1),
    prefer=st.sampled_from(Prefer),
    max_trials=st.integers(1, 30),
)


def _searched(space: Space, world: World) -> tuple[list[Judged], str]:
    history: list[Judged] = []
    for _ in range(200):
        match next_move(space, history):
            case Make(trial=trial):
                assert trial not in {judged.trial for judged in history}
                history.append(world.judge(trial))
            case Examine(precision=precision):
                assert precision not in space.losses
                space = replace(space, losses={**space.losses, precision: world.examine(precision)})
            case Done(why=why):
                return history, why
    pytest.fail("it does not end")


@given(spaces, worlds)
def test_it_ends_within_its_trials_and_repeats_itself(space: Space, world: World) -> None:
    history, why = _searched(space, world)
    assert why
    assert len(history) <= space.max_trials
    assert [judged.trial for judged in _searched(space, world)[0]] == [judged.trial for judged in history]


@given(spaces, worlds)
def test_what_it_prefers_keeps_to_the_budget_and_costs_least(space: Space, world: World) -> None:
    history, _ = _searched(space, world)
    good = [judged for judged in history if judged.drop is not None and judged.drop.value <= space.budget]
    best = best_first(space, history)
    assert len(best) == len(good)
    if good:
        assert cost(best[0], space.prefer) == min(cost(judged, space.prefer) for judged in good)
    bad = least_bad(history)
    assert bad is not None
    assert all(bad.drop.value <= item.drop.value for item in history if bad.drop and item.drop)


@given(spaces, worlds, st.floats(0.0, 0.1))
def test_a_wider_budget_never_costs_more_among_the_same_trials(
    space: Space, world: World, more: float
) -> None:
    history, _ = _searched(space, world)
    narrow = best_first(space, history)
    wide = best_first(replace(space, budget=space.budget + more), history)
    assert len(wide) >= len(narrow)
    if narrow:
        assert cost(wide[0], space.prefer) <= cost(narrow[0], space.prefer)


@given(worlds, st.floats(0.001, 0.05))
def test_mending_finds_the_least_number_of_layers(world: World, budget: float) -> None:
    """Where losses add up, the shortest prefix of the layers that lose most per byte."""
    space = Space(
        candidates=(Precision.INT8, Precision.FP32),
        mixable=frozenset(RAISES),
        raises=RAISES,
        losses={},
        budget=budget,
        prefer=Prefer.SIZE,
        max_trials=100,
    )
    history, _ = _searched(space, world)
    best = best_first(space, history)[0]
    order = sorted(world.examine(Precision.INT8), key=lambda item: (-item.per_byte, item.layer))
    for count in range(len(order)):
        trial = Trial(precision=Precision.INT8, raised=tuple(item.layer for item in order[:count]))
        judged = world.judge(replace(trial, to=Precision.FP32))
        if judged.keeps(budget):
            assert best.size_bytes <= judged.size_bytes
            break
    assert len(history) <= 2 + 2 * max(1, len(world.layers)).bit_length() + 2


def test_one_layer_that_hurts_is_raised_alone() -> None:
    """Of 120 layers, in four trials besides the candidates: 1 is too few of none, 1 is enough."""
    world = World(tuple((1000, 0.2 if index == 77 else 0.00001) for index in range(120)))
    space = Space(
        candidates=(Precision.INT8, Precision.FP32), mixable=frozenset(RAISES), raises=RAISES, losses={},
        budget=0.01, prefer=Prefer.SIZE, max_trials=24,
    )  # fmt: skip
    history, _ = _searched(space, world)
    assert best_first(space, history)[0].trial.raised == ("layer77",)
    assert len(history) == 3


def test_a_trial_that_cannot_be_made_ends_mending_and_nothing_else() -> None:
    space = Space(
        candidates=(Precision.INT8, Precision.FP32), mixable=frozenset(RAISES), raises=RAISES,
        losses={Precision.INT8: World(((10, 1.0), (10, 1.0), (10, 0.5))).examine(Precision.INT8)},
        budget=0.01, prefer=Prefer.SIZE, max_trials=24,
    )  # fmt: skip
    world = World(((10, 1.0), (10, 1.0), (10, 0.5)))
    history = [world.judge(Trial(precision=precision)) for precision in space.candidates]
    move = next_move(space, history)
    assert isinstance(move, Make)
    history.append(Judged(trial=move.trial, failure="Conv cannot be mixed"))
    assert isinstance(next_move(space, history), Done)
    assert best_first(space, history)[0].trial.precision is Precision.FP32


def test_a_step_that_is_too_little_for_all_layers_is_left_out() -> None:
    """Where eight bits for all lose too much, raising some of four to eight wins nothing."""
    world = World(((1000, 0.1), (1000, 0.0), (1000, 0.0)))
    space = Space(
        candidates=(Precision.INT4_WEIGHTS, Precision.INT8_WEIGHTS, Precision.FP32),
        mixable=frozenset(RAISES), raises=RAISES, losses={}, budget=0.01, prefer=Prefer.SIZE, max_trials=24,
    )  # fmt: skip
    history, _ = _searched(space, world)
    best = best_first(space, history)[0].trial
    assert best == Trial(precision=Precision.INT4_WEIGHTS, raised=("layer0",), to=Precision.FP32)
    assert len(history) == 4


def test_what_fails_another_check_is_mended_too() -> None:
    """Far off on a golden vector, say: fewer bits are at fault there as well."""
    world = World(((10, 0.3), (10, 0.0), (10, 0.0)))
    space = Space(
        candidates=(Precision.INT8, Precision.FP32), mixable=frozenset(RAISES), raises=RAISES,
        losses={Precision.INT8: world.examine(Precision.INT8)},
        budget=0.01, prefer=Prefer.SIZE, max_trials=24,
    )  # fmt: skip
    history = [world.judge(Trial(precision=precision)) for precision in space.candidates]
    history[0] = replace(history[0], failure="y differs from the source by 0.9 on a golden vector")
    assert next_move(space, history) == Make(
        trial=Trial(precision=Precision.INT8, raised=("layer0",), to=Precision.FP32)
    )


def _judged(name: Precision, size: int, drop: float, p50: int | None = None, half: float = 0.005) -> Judged:
    estimate = Estimate(value=drop, low=drop - half, high=drop + half)
    return Judged(trial=Trial(precision=name), size_bytes=size, drop=estimate, p50_us=p50)


def test_only_what_is_surely_worse_in_everything_is_dominated() -> None:
    good = _judged(Precision.INT8, 100, 0.0, 10)
    assert dominating(_judged(Precision.FP16, 200, 0.03, 20), [good]) is good
    assert dominating(_judged(Precision.FP16, 200, 0.005, 20), [good]) is None, "intervals overlap"
    assert dominating(_judged(Precision.FP16, 200, 0.03, 10), [good]) is None, "as fast"
    assert dominating(_judged(Precision.FP16, 90, 0.03, 20), [good]) is None, "smaller"
    assert dominating(_judged(Precision.FP16, 200, 0.03), [good]) is good, "nobody knows how fast"


def test_every_trial_that_was_not_chosen_says_why() -> None:
    goal = Goal(metric=Metric.ACCURACY, max_drop=0.01)
    good = _judged(Precision.INT8, 100, 0.0, 10)
    assert why_not(_judged(Precision.FP16, 90, 0.03), goal, [good]) == (
        "over budget", "accuracy drops by 3 points, 1 points allowed",
    )  # fmt: skip
    assert why_not(_judged(Precision.FP16, 200, 0.03), goal, [good])[1].endswith(
        "int8 is better in everything"
    )
    assert why_not(_judged(Precision.FP16, 200, 0.008, half=0.0001), goal, [good])[0] == "dominated"
    assert why_not(_judged(Precision.FP16, 200, 0.001), goal, [good])[0] == "dropped"
    assert why_not(Judged(trial=Trial(precision=Precision.FP16), failure="no kernel"), goal, [good]) == (
        "failed", "no kernel",
    )  # fmt: skip


def test_slower_than_float_is_said() -> None:
    assert slower_than_float(66, 19) == "slower than float: 66 µs against 19"
    assert slower_than_float(20, 19) == ""
    assert slower_than_float(None, 19) == ""
