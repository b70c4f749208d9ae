"""What importers of ONNX share, whichever framework they build for.

`walking` takes an importer's table over a graph of fixed shapes; `node` is an operator as the functions of a
table see it. The rest works out what attributes and constant inputs mean: windows, slices, shapes, gates.
Nothing here imports a framework; `converter.onnx_to_mil` and `converter.onnx_to_torch` build of it.
"""
