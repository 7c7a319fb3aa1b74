"""The commands that everything else runs: used where they are installed and fit, else built here once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.system import venv_command
from local.toolchain.installed import installed_kubectl, installed_pulumi
from local.toolchain.native import LlamaServer, Pause
from local.toolchain.pieces import ACTIONLINT, COREDNS, FERRETDB, KUBE_SCORE, KUBECTL, KUBERNETES, PROVIDER, PULUMI
from local.toolchain.plugin import ask_pulumi, build_plugin, plugin_stands
from local.toolchain.store import Recipe, folder, link, make

RECIPES: tuple[Recipe, ...] = (
    PULUMI,
    KUBECTL,
    KUBERNETES,
    COREDNS,
    LlamaServer(),
    Pause(),
    ACTIONLINT,
    KUBE_SCORE,
    FERRETDB,
)
INSTALLED = {"pulumi": installed_pulumi, "kubectl": installed_kubectl}


@dataclass(frozen=True)
class Tools:
    """Commands that are there."""

    paths: Mapping[str, Path]
    folders: tuple[Path, ...] = field(default=())
    """What goes before the PATH; an installed command needs nothing, it is found there as it is."""

    def path(self, name: str) -> Path:
        """Where a command lies that `ensure` was asked for."""
        return self.paths[name]

    def env(self) -> dict[str, str]:
        """This process's environment, with these commands found first."""
        before = [*map(str, self.folders), *filter(None, [os.environ.get("PATH")])]
        return {**os.environ, "PATH": os.pathsep.join(before)}


def ensure(*names: str) -> Tools:
    """Make the named commands available; `pulumi` brings its Python language host and its Kubernetes provider.

    Raises UserError where a compiler, the network or the build fails; ValueError for a name that it does not know.
    """
    paths: dict[str, Path] = {}
    recipes: list[Recipe] = []
    for name in names:
        if found := _found(name):
            paths[name] = found
        else:
            recipes.extend(recipe for recipe in (_recipe(name),) if recipe not in recipes)
    provider = "pulumi" in names and not plugin_stands() and not ("pulumi" in paths and ask_pulumi(paths["pulumi"]))
    # What is missing is said before anything long starts.
    for recipe in (*recipes, *((PROVIDER,) if provider else ())):
        if not folder(recipe).is_dir():
            recipe.require()
    folders = [make(recipe) for recipe in recipes]
    for recipe, place in zip(recipes, folders, strict=True):
        link(recipe)
        paths |= {command: place / command for command in recipe.commands}
    if provider:
        build_plugin()
    return Tools(paths=paths, folders=tuple(folders))


def _found(name: str) -> Path | None:
    if name == "go":
        return venv_command("go")
    return INSTALLED[name]() if name in INSTALLED else None


def _recipe(name: str) -> Recipe:
    for recipe in RECIPES:
        if name in recipe.commands:
            return recipe
    raise ValueError(f"no recipe makes {name!r}")
