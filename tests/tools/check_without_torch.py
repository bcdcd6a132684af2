"""Import every module of the runtime where PyTorch is not installed.

Not a pytest module: it runs in an environment of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil

EXPORT_ONLY = ("torch", "onnx", "onnxscript")
SERVICE = "segmaformer.runtime.service"
OF_AN_EXTRA = {
    "segmaformer.runtime.backends.openvino_ops": "openvino",
    f"{SERVICE}.app": "fastapi",
    f"{SERVICE}.form": "starlette",
    f"{SERVICE}.guard": "starlette",
    f"{SERVICE}.server": "uvicorn",
    f"{SERVICE}.work": "starlette",
}
"""Modules that are imported only where an optional package is, and which."""


def main() -> None:
    present = [name for name in EXPORT_ONLY if importlib.util.find_spec(name)]
    if present:
        raise SystemExit(f"this check needs an environment without {', '.join(present)}")
    import segmaformer.runtime

    found = pkgutil.walk_packages(segmaformer.runtime.__path__, "segmaformer.runtime.")
    modules = [module.name for module in found if is_importable(module.name)]
    for module in modules:
        importlib.import_module(module)
    print(f"segmaformer and {len(modules)} modules of segmaformer.runtime import without PyTorch")


def is_importable(module: str) -> bool:
    needed = OF_AN_EXTRA.get(module)
    return needed is None or importlib.util.find_spec(needed) is not None


if __name__ == "__main__":
    main()
