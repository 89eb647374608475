"""Subnets as ONNX files, batch normalisation left unfolded so that weights stay exact slices."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import model

OPSET = 17
# The oldest IR version that carries opset 17: readers of any later release accept the file.
IR_VERSION = 8


def build(params, subnet, stats):
    """The ONNX model of one subnet. `stats`: {layer: (mean, variance)}, each [cout]."""
    tensors = {k: np.asarray(v) for k, v in model.sliced_weights(params["shared"], subnet).items()}
    nodes = []

    def add(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv_bn(c, x):
        pad = c.kernel // 2
        y = add(
            "Conv",
            [x, f"{c.name}.weight"],
            f"{c.name}.conv",
            kernel_shape=[c.kernel, c.kernel],
            strides=[c.stride, c.stride],
            pads=[pad] * 4,
        )
        names = [f"{c.name}.bn.{part}" for part in ("scale", "shift", "mean", "variance")]
        learned = params["bn"][subnet.name][c.name]
        values = (learned["scale"], learned["shift"], *stats[c.name])
        tensors.update({n: np.asarray(v, np.float32) for n, v in zip(names, values)})
        return add("BatchNormalization", [y, *names], f"{c.name}.bn", epsilon=model.BN_EPSILON)

    x = add("Relu", [conv_bn(model.stem(subnet), "input")], "stem.relu")
    for block in model.blocks(subnet):
        prefix = block.conv1.name.removesuffix(".conv1")
        shortcut = conv_bn(block.project, x) if block.project else x
        y = add("Relu", [conv_bn(block.conv1, x)], f"{prefix}.relu1")
        y = add("Add", [conv_bn(block.conv2, y), shortcut], f"{prefix}.add")
        x = add("Relu", [y], f"{prefix}.relu2")
    x = add("Flatten", [add("GlobalAveragePool", [x], "pool")], "features")
    add("Gemm", [x, "head.weight", "head.bias"], "logits", transB=1)

    graph = helper.make_graph(
        nodes,
        f"supernet-fashion-{subnet.name}",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", model.CLASSES])],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in tensors.items()],
    )
    proto = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="supernet-fashion",
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto
