"""What the volumes that are there allow: a claim may grow where its class can, and never shrinks."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from config.backend import Backend
from config.errors import Problem
from config.model import StackConfig
from config.scalars import quantity_bytes
from config.sizing import GIB
from ops.kube import Kube, Object, name_of


def claims(config: StackConfig, kube: Kube, classes: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    """What the API server would refuse in the middle of an update."""
    live = {name_of(claim): claim for claim in kube.listed("persistentvolumeclaims")}
    for backend in config.backends:
        claim = live.get(backend.claim)
        if claim:
            yield from _claim(backend, claim, classes)


def _claim(backend: Backend, claim: Object, classes: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    where = f"of {backend.name}"
    name: str = claim["spec"].get("storageClassName", "")
    if name != backend.storage_class:
        remedy = f"the claim {where} is of class {name}, which cannot change: write that, or give the claim up (README)"
        yield Problem(key="llama-chat:storage.class_name", value=backend.storage_class, remedy=remedy)
        return
    there = math.ceil(quantity_bytes(claim["spec"]["resources"]["requests"]["storage"]) / GIB)
    key, value = "llama-chat:storage.size_gib", str(backend.volume_gib)
    can_grow = classes.get(name, {}).get("allowVolumeExpansion")
    if backend.volume_given and backend.volume_gib < there:
        remedy = (
            f"the claim {where} has {there} GiB and never shrinks: write size_gib: {there} in that backend's storage"
        )
        yield Problem(key=key, value=value, remedy=remedy)
    if backend.volume_gib > there and can_grow and not backend.volume_given:
        remedy = f"the claim {where} has {there} GiB, its models need more: write size_gib: {value} in its storage"
        yield Problem(key=key, value="(missing)", remedy=remedy)
    if backend.volume_gib > there and not can_grow:
        remedy = (
            f"the claim {where} has {there} GiB, and volumes of class {name} cannot grow: give the claim up "
            f"(README), and it is made anew, or list fewer models there"
        )
        yield Problem(key=key, value=value, remedy=remedy)
