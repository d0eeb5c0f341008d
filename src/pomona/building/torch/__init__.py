"""Networks of PyTorch, converted to OpenVINO. The only package that imports PyTorch.

It runs in the process that builds an encoder, never in a worker.
"""
