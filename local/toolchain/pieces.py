"""What is built from Go modules, and which command comes from which piece."""

from local.toolchain.go import GoModule, GoPiece, ModuleFile

PULUMI_VERSION = "3.259.0"
PROVIDER_VERSION = "4.25.0"
KUBERNETES_VERSION = "1.34.3"

_KUBERNETES_LDFLAGS = " ".join(
    f"-X k8s.io/{package}.gitVersion=v{KUBERNETES_VERSION}"
    for package in ("component-base/version", "client-go/pkg/version")
)

# The language host looks for its executor, and the CLI for its language host, beside itself: one folder for all.
PULUMI = GoPiece(
    name="pulumi",
    version=PULUMI_VERSION,
    commands=("pulumi", "pulumi-language-python", "pulumi-language-python-exec"),
    modules=(
        GoModule(
            folder="pulumi-cli",
            packages=("github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",),
            ldflags=f"-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{PULUMI_VERSION}",
            scripts=(
                ModuleFile(module="github.com/pulumi/pulumi/sdk/v3", path="python/cmd/pulumi-language-python-exec"),
            ),
        ),
        GoModule(
            folder="pulumi-language-python",
            packages=("github.com/pulumi/pulumi/sdk/python/cmd/pulumi-language-python/v3",),
        ),
    ),
)

_PROVIDER_MODULE = "github.com/pulumi/pulumi-kubernetes/provider/v4"
PROVIDER = GoPiece(
    name="pulumi-resource-kubernetes",
    version=PROVIDER_VERSION,
    commands=("pulumi-resource-kubernetes",),
    modules=(
        GoModule(
            folder="pulumi-resource-kubernetes",
            packages=(".",),
            embeds=tuple(
                ModuleFile(module=_PROVIDER_MODULE, path=f"cmd/pulumi-resource-kubernetes/{name}")
                for name in ("schema.json", "terraform-mapping.json")
            ),
        ),
    ),
)


def _kubernetes(name: str, *commands: str) -> GoPiece:
    packages = tuple(f"k8s.io/kubernetes/cmd/{command}" for command in commands)
    module = GoModule(folder="kubernetes", packages=packages, ldflags=_KUBERNETES_LDFLAGS)
    return GoPiece(name=name, version=KUBERNETES_VERSION, commands=commands, modules=(module,))


KUBERNETES = _kubernetes(
    "kubernetes", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"
)
# Apart: an operator with a cluster of his own needs kubectl and no control plane.
KUBECTL = _kubernetes("kubectl", "kubectl")

COREDNS = GoPiece(
    name="coredns",
    version="1.15.0",
    commands=("coredns",),
    modules=(GoModule(folder="coredns", packages=("github.com/coredns/coredns",)),),
)

# What only the tests and the people who work on this code run.
ACTIONLINT = GoPiece(
    name="actionlint",
    version="1.7.12",
    commands=("actionlint",),
    modules=(GoModule(folder="actionlint", packages=("github.com/rhysd/actionlint/cmd/actionlint",)),),
)
KUBE_SCORE = GoPiece(
    name="kube-score",
    version="1.20.0",
    commands=("kube-score",),
    modules=(GoModule(folder="kube-score", packages=("github.com/zegl/kube-score/cmd/kube-score",)),),
)
# A real document store to test against: SQLite behind MongoDB's wire protocol.
FERRETDB = GoPiece(
    name="ferretdb",
    version="1.24.2",
    commands=("ferretdb",),
    modules=(GoModule(folder="ferretdb", packages=(".",)),),
)
