"""The passes: each module changes a model from one node of the route graph to another.

They run in `converter.pass_process` alone, one per process: what they import, allocate or break ends
with it.
"""
