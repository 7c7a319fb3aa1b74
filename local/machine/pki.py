"""Certificates and kubeconfigs of the machine, made with openssl."""

import base64
import shutil
import subprocess
from pathlib import Path

import yaml

from local.machine.layout import API, API_PORT, CONTROL, Layout
from local.paths import CONTEXT

DAYS = 3650
RENEW_SECONDS = 30 * 24 * 3600
SUBJECTS = {
    "apiserver": "/CN=kube-apiserver",
    "admin": "/O=system:masters/CN=llama-chat-admin",
    "kubelet-client": "/O=system:masters/CN=apiserver-kubelet-client",
}
_EXTENSIONS = f"""\
[req]
distinguished_name = subject
[subject]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, IP:{CONTROL}, IP:{API}, DNS:localhost, DNS:kubernetes, DNS:kubernetes.default, \
DNS:kubernetes.default.svc, DNS:kubernetes.default.svc.cluster.local
"""


def ensure_pki(folder: Path) -> bool:
    """Make the certificates where one is missing, broken or about to expire; True where they are new."""
    if all(_is_good(folder, name) for name in ("ca", *SUBJECTS)) and (folder / "service-accounts.key").exists():
        return False
    partial = folder.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    (partial / "openssl.cnf").write_text(_EXTENSIONS)
    _certificate(partial, "ca", "/CN=llama-chat-ca", "ca")
    for name, subject in SUBJECTS.items():
        _certificate(partial, name, subject, "leaf", "-CA", "ca.crt", "-CAkey", "ca.key")
    _openssl(partial, "genpkey", "-algorithm", "RSA", "-out", "service-accounts.key")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return True


def kubeconfig(pki: Path, server: str) -> str:
    """A kubeconfig with everything in it, so that it can be copied."""

    def embedded(name: str) -> str:
        return base64.b64encode((pki / name).read_bytes()).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": CONTEXT, "cluster": {"server": server, "certificate-authority-data": embedded("ca.crt")}}
        ],
        "users": [
            {
                "name": CONTEXT,
                "user": {"client-certificate-data": embedded("admin.crt"), "client-key-data": embedded("admin.key")},
            }
        ],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
        "current-context": CONTEXT,
    }
    return yaml.safe_dump(document, sort_keys=False)


def outer_kubeconfig(layout: Layout) -> str:
    """For people and Pulumi: the API server by its loopback port."""
    return kubeconfig(layout.pki, f"https://127.0.0.1:{layout.api_port}")


def inner_kubeconfig(layout: Layout) -> str:
    """For the daemons inside."""
    return kubeconfig(layout.pki, f"https://{CONTROL}:{API_PORT}")


def _certificate(folder: Path, name: str, subject: str, extensions: str, *signed_by: str) -> None:
    files = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    what = ("-config", "openssl.cnf", "-extensions", extensions, "-subj", subject, "-days", str(DAYS))
    _openssl(folder, "req", "-x509", *curve, *what, *files, *signed_by)


def _is_good(folder: Path, name: str) -> bool:
    check = ("x509", "-checkend", str(RENEW_SECONDS), "-noout", "-in", str(folder / f"{name}.crt"))
    return (folder / f"{name}.key").exists() and _run(check, folder.parent).returncode == 0


def _openssl(folder: Path, *arguments: str) -> None:
    _run(arguments, folder).check_returncode()


def _run(arguments: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], cwd=folder, check=False, capture_output=True)
