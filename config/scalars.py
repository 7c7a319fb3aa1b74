"""Kinds of single values in a stack file: the form of each, and an example that its refusal shows."""

from typing import Annotated

from pydantic import Field

DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63, examples=["llm-gateway"])]
DnsName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253, examples=["gpu-node-1", "node-1.example.org"]),
]
# The longest name made of a role is a Job's pod, `llama-<role>-fetch-<10 of a hash>-<5>`: 63 at most as a host name.
Role = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=30, examples=["static-a"])]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", examples=["250m", "16Gi"])]
Group = Annotated[int, Field(ge=0)]
GpuResource = Annotated[str, Field(pattern=r"^([a-z0-9.-]+/[A-Za-z0-9._-]+|none)$", examples=["amd.com/gpu", "none"])]
Image = Annotated[
    str,
    Field(
        # The policy judges tag and digest, with a remedy for each.
        pattern=r"^[a-z0-9][^\s@]*/[^\s@]+(@[^\s@]+)?$",
        examples=["ghcr.io/owner/name:v1.2.3@sha256:<64 hex digits>"],
    ),
]
SecretDataKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", examples=["token"])]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/[^\s]*)?$", examples=["https://huggingface.co"])]

# Names of the hub become parts of paths and URLs: no part of them may begin with a dot.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=63, examples=["GLM-4.7-Flash"])]
# What somebody else's gateway routes: any text that stays on one line.
RouteName = Annotated[
    str,
    Field(pattern=r"^[^\s\x00-\x1f]([^\x00-\x1f]*[^\s\x00-\x1f])?$", max_length=253, examples=["general-chat"]),
]
Repo = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*$", examples=["unsloth/GLM-4.7-Flash-GGUF"]
    ),
]
Quant = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", examples=["Q4_K_M"])]
Filename = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9_][A-Za-z0-9._+-]*/)*[A-Za-z0-9_][A-Za-z0-9._+-]*\.gguf$",
        examples=["GLM-4.7-Flash-Q4_K_M.gguf"],
    ),
]
Revision = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9._+-]*/)*[A-Za-z0-9_][A-Za-z0-9._+-]*$", examples=["main", "v1.0"]),
]

EnvName = Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$", examples=["LITELLM_MASTER_KEY"])]
# One text for a command line, a preset file and llama-swap's config: none of their comment and macro marks.
FlagName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", examples=["cache-type-k"])]
FlagValue = bool | int | float | Annotated[str, Field(pattern=r"^[^#;$\x00-\x1f]+$", examples=["q8_0"])]


_UNITS = {
    "": 1,
    "m": 1e-3,
    **{unit: 1000**n for n, unit in enumerate(("k", "M", "G", "T"), 1)},
    **{unit: 1024**n for n, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), 1)},
}


def quantity_bytes(quantity: str) -> float:
    """A Kubernetes quantity as a number (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/)."""
    number = quantity.rstrip("mkKMGTi")
    return float(number) * _UNITS[quantity.removeprefix(number)]
