"""ONNX → MIL, the program inside a Core ML mlpackage: an importer of our own onto coremltools' builder.

coremltools itself has had no ONNX frontend since version 6. `importing` walks a graph of fixed shapes,
`table` says which function makes what of an operator, and the modules beside it hold the functions. What is
not in the table, or is used in a way a function does not know, is refused by name: nothing is guessed.
"""
