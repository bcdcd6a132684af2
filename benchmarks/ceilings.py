"""Products and copies a second of this machine, as fast as any library is seen to do them.

A floor is no floor if it comes from a slow library: NumPy's matrix product reaches less than half
of what others reach on the same cores. So PyTorch, ONNX Runtime and OpenVINO multiply matrices of
several shapes, a copy is made by PyTorch and by ``memcpy`` in every thread, and the fastest counts.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from turns import available_threads, best_of

PRODUCTS = ((2048, 2048, 2048), (4096, 512, 512), (16384, 256, 256))
"""Rows, columns and length of the sums: a large product, and tokens times weights."""
COPIED_MIB = 256

Product = Callable[[], object]


def _torch_product(left: np.ndarray, right: np.ndarray) -> Product:
    import torch

    torch.set_num_threads(available_threads())
    first, second = torch.from_numpy(left), torch.from_numpy(right)
    return lambda: torch.mm(first, second)


def _product_graph(left: np.ndarray, right: np.ndarray) -> Any:
    """Write a product with a constant, as networks have them: libraries lay it out beforehand."""
    from onnx import TensorProto, helper, numpy_helper

    tiles = helper.make_tensor_value_info("tiles", TensorProto.FLOAT, left.shape)
    logits = helper.make_tensor_value_info(
        "logits", TensorProto.FLOAT, (left.shape[0], right.shape[1])
    )
    node = helper.make_node("MatMul", ["tiles", "weights"], ["logits"])
    weights = numpy_helper.from_array(right, "weights")
    graph = helper.make_graph([node], "product", [tiles], [logits], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _onnxruntime_product(left: np.ndarray, right: np.ndarray) -> Product:
    from segmaformer.runtime.backends.onnxruntime_cpu import open_network

    content = _product_graph(left, right).SerializeToString()
    session = open_network(content, threads=available_threads())
    return lambda: session.run(None, {"tiles": left})


def _openvino_product(left: np.ndarray, right: np.ndarray) -> Product:
    from segmaformer.runtime.backends.openvino import open_network

    content = _product_graph(left, right).SerializeToString()
    compiled = open_network(content, left.shape, threads=available_threads(), errors=[])
    request = compiled.create_infer_request()
    return lambda: request.infer([left], share_inputs=True, share_outputs=True)


def _products() -> Iterator[tuple[str, float]]:
    makers = {"PyTorch": _torch_product, "ONNX Runtime": _onnxruntime_product}
    if importlib.util.find_spec("openvino") is not None:
        makers["OpenVINO"] = _openvino_product
    random = np.random.default_rng(0)
    for rows, columns, length in PRODUCTS:
        left = random.standard_normal((rows, length), dtype=np.float32)
        right = random.standard_normal((length, columns), dtype=np.float32)
        count = math.prod((rows, columns, length))
        for name, make in makers.items():
            shape = f"{rows} x {length} x {columns}"
            yield f"{name}, {shape}", count / best_of(make(left, right))


def _copies() -> Iterator[tuple[str, float]]:
    import torch

    threads = available_threads()
    torch.set_num_threads(threads)
    source = np.ones((threads, COPIED_MIB * 2**18 // threads), np.float32)
    target = np.zeros_like(source)
    moved = 2 * source.nbytes
    first, second = torch.from_numpy(source), torch.from_numpy(target)
    yield "PyTorch", moved / best_of(lambda: second.copy_(first))
    with ThreadPoolExecutor(threads) as pool:
        yield "memcpy", moved / best_of(lambda: list(pool.map(np.copyto, target, source)))


def ceilings() -> dict[str, Any]:
    """Measure multiplications and bytes a second of every library, and name the fastest."""
    products, copies = dict(_products()), dict(_copies())
    return {
        "multiplications_per_s": max(products.values()),
        "bytes_per_s": max(copies.values()),
        "fastest_product": max(products, key=products.__getitem__),
        "fastest_copy": max(copies, key=copies.__getitem__),
        "products_per_s": products,
        "copies_per_s": copies,
    }
