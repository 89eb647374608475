"""The ONNX file of a largest network and the text of its supernet.toml, piece by piece."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
# The oldest IR version that carries opset 17: readers of any later release accept the file.
IR_VERSION = 8


class Graph:
    """Nodes in order of execution and tensors by name; a node's name is that of its first output."""

    def __init__(self, params):
        self.tensors = {name: np.asarray(value) for name, value in params.items()}
        self.nodes = []

    def add(self, op, inputs, outputs, **attributes):
        """Adds a node; returns its output's name, or the list of them if a list was given."""
        names = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(op, inputs, names, name=names[0], **attributes))
        return outputs

    def model(self, name, size, classes):
        """The checked ONNX model from `input` [N,1,size,size] to `logits` [N,classes]."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, size, size])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
            [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in self.tensors.items()],
        )
        proto = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name=name,
        )
        onnx.checker.check_model(proto, full_check=True)
        return proto


class Description:
    """supernet.toml as it is written."""

    def __init__(self, choices):
        self.lines = [
            "# Which parts of largest.onnx are elastic. The file is the largest network: every choice at its last option.",
            "# Written by export.py.",
        ]
        for name, options in choices.items():
            self.table("choice", name=name, options=options)

    def table(self, kind, **entries):
        """Adds `[[kind]]`; JSON's form of strings, numbers and lists is TOML's too. `source` is written as `from`."""
        self.lines += ["", f"[[{kind}]]"]
        for key, value in entries.items():
            self.lines.append(f"{'from' if key == 'source' else key} = {json.dumps(value)}")

    def __str__(self):
        return "\n".join(self.lines) + "\n"
