"""Rewrites the operators of `ai.onnx.ml` into those of `ai.onnx`, which every other route reads.

`rewriting.plain` walks a model; `linear`, `features`, `vectors` and `trees` know the operators.
"""
