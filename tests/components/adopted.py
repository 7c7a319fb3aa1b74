"""A LiteLLM and a LibreChat that run already, as `make adopt` found them."""

from copy import deepcopy
from typing import Any

import yaml

from config.legacy import Adopted
from config.model import StackConfig
from tests.conftest import VALUES, stack_config

LITELLM = """\
# by hand
model_list:
  - model_name: general-chat
    litellm_params: {model: hosted_vllm/general, api_base: "http://vllm-general:8000/v1", timeout: 120}
  - model_name: code-chat
    litellm_params: {model: hosted_vllm/code, api_base: "http://vllm-code:8000/v1", api_key: os.environ/LEGACY_KEY_1}
litellm_settings: {drop_params: true}
general_settings: {master_key: os.environ/LITELLM_MASTER_KEY}
"""
LIBRECHAT = """\
version: 1.2.1
endpoints:
  custom:
    - name: vLLM
      apiKey: ${LITELLM_MASTER_KEY}
      baseURL: http://llm-gateway.ai.svc.cluster.local:4000/v1
      models: {default: [general-chat, code-chat], fetch: false}
"""
GATEWAY = """\
metadata: {name: llm-gateway, namespace: ai}
spec:
  replicas: 1
  progressDeadlineSeconds: 900
  strategy: {type: Recreate}
  selector: {matchLabels: {app: llm-gateway}}
  template:
    metadata: {labels: {app: llm-gateway}}
    spec:
      nodeSelector: {disk: ssd}
      affinity:
        nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}
        podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: []}
      securityContext: {fsGroup: 999}
      serviceAccountName: litellm
      imagePullSecrets: [{name: ghcr}]
      terminationGracePeriodSeconds: 30
      initContainers:
        - {name: prepare, image: "busybox:1", volumeMounts: [{name: tmp, mountPath: /out}]}
      containers:
        - {name: proxy, image: "oauth2-proxy:v7", livenessProbe: {tcpSocket: {port: 1}}}
        - name: litellm
          image: ghcr.io/berriai/litellm:v1.60.0
          args: [--config, /app/config.yaml]
          ports: [{containerPort: 8000, hostPort: 8000}]
          env:
            - {name: LITELLM_MASTER_KEY, valueFrom: {secretKeyRef: {name: litellm, key: master-key}}}
            - {name: OLD, value: sk-env-canary}
          envFrom: [{secretRef: {name: more}}]
          livenessProbe: {httpGet: {path: /health/liveliness, port: 8000}}
          volumeMounts:
            - {name: config, mountPath: /app/config.yaml, subPath: config.yaml}
            - {name: cache, mountPath: /cache}
      volumes:
        - {name: config, configMap: {name: litellm-config, defaultMode: 420}}
        - {name: cache, persistentVolumeClaim: {claimName: litellm-cache}}
        - {name: tmp, emptyDir: {}}
"""
FRONTEND = """\
metadata: {name: librechat, namespace: ai}
spec:
  strategy: {type: Recreate}
  template: {metadata: {labels: {app: librechat}}, spec: {containers: [{name: librechat, image: "librechat:v0.8"}]}}
"""


def adopting(
    phase: str = "parallel", gateway: dict[str, Any] | None = None, frontend: dict[str, Any] | None = None
) -> StackConfig:
    """A stack that adopts both; `gateway` and `frontend` in place of the Deployments above."""
    values: dict[str, Any] = {
        **deepcopy(VALUES),
        "frontend": {"mode": "adopt"},
        "migration": {"phase": phase},
        "legacy": {
            "keys_secret": "legacy-keys",
            "keys": ["LEGACY_KEY_1"],
            "routes": [
                {
                    "name": "general-chat",
                    "deployment": "vllm-general",
                    "node": "gpu-node-1",
                    "replicas": 2,
                    "replaced_by": "GLM-4.7-Flash",
                },
                {
                    "name": "code-chat",
                    "deployment": "vllm-code",
                    "node": "gpu-node-2",
                    "replicas": 1,
                    "replaced_by": "Qwen3-Coder-30B-A3B",
                },
            ],
        },
    }
    values["gateway"]["mode"] = "adopt"
    found = Adopted(
        litellm=LITELLM,
        librechat=LIBRECHAT,
        gateway=gateway or live_gateway(),
        frontend=frontend or yaml.safe_load(FRONTEND),
    )
    return stack_config(values).with_adopted(found)


def live_gateway() -> dict[str, Any]:
    """The adopted gateway's Deployment, for a test to change."""
    return yaml.safe_load(GATEWAY)


def litellm_container(deployment: dict[str, Any]) -> dict[str, Any]:
    """The container that runs LiteLLM in the adopted Deployment."""
    return deployment["spec"]["template"]["spec"]["containers"][1]
