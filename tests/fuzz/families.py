"""Small supernets for `fuzz_seeds`: an ONNX file each, and beside it the description of what is elastic."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

CHOICES = """[[choice]]
name = "depth"
options = [1, 2]
[[choice]]
name = "width"
options = [8, 16]
[[choice]]
name = "part"
options = ["a", "b"]
[[skip]]
choice = "depth"
options = [1]
from = "x0"
to = "x1"
[[cut]]
choice = "width"
sizes = [24, 48]
of = ["up1:1"]
parts = 3
[[cut]]
choice = "width"
sizes = [24, 48]
of = ["down1:0"]
[[swap]]
choice = "part"
of = ["up1"]
prefixes = ["a/", ""]
"""
MIXED = """[[mixture]]
of = ["up0:1", "bias0:0"]
experts = ["", "e1/"]
features = [{ of = ["depth", "width"], values = [[0.5, 1.0], [0.5, 1.0]], first = "depth", counts = [1, 2] }]
layers = [{ weight = "r0", bias = "r1", relu = true }, { weight = "r2" }]
"""


def families():
    """(name, model, description) each."""
    rng = np.random.default_rng(0)
    shapes = {"up0": (8, 48), "e1/up0": (8, 48), "bias0": (48,), "e1/bias0": (48,), "down0": (48, 8), "r0": (3, 1), "r1": (3,),
              "r2": (96, 3), "up1": (8, 48), "a/up1": (8, 48), "down1": (48, 8)}
    stored = [numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name) for name, shape in shapes.items()]
    nodes = [helper.make_node(op, inputs.split(), [output]) for op, inputs, output in [
        ("MatMul", "x up0", "a0"), ("Add", "a0 bias0", "b0"), ("Relu", "b0", "c0"), ("MatMul", "c0 down0", "d0"), ("Add", "d0 x", "x0"),
        ("MatMul", "x0 up1", "a1"), ("Tanh", "a1", "b1"), ("MatMul", "b1 down1", "d1"), ("Add", "d1 x0", "x1"), ("Sigmoid", "x1", "y")]]
    port = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 8])
    graph = helper.make_graph(nodes, "family", [port("x")], [port("y")], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    yield "family", model, CHOICES
    yield "family-mixed", model, CHOICES + MIXED
