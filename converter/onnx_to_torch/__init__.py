"""ONNX → a PyTorch module, which `torch.export` and what stands on it take.

`importing` makes the module, `table` says which function computes an operator, and the modules beside it
hold the functions. They keep to operations that litert-torch lowers to TFLite's own. What is not in the
table, or is used in a way a function does not know, is refused by name: nothing is guessed.
"""
