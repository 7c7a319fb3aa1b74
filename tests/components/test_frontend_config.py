"""What the frontend's ConfigMap is."""

import yaml

from components.frontend_config import FrontendConfig, FrontendConfigArgs
from config.model import StackConfig
from tests.components.recorder import record


def test_the_config_map_has_a_fixed_name_and_lists_what_users_pick_from(config: StackConfig) -> None:
    made = record(lambda: FrontendConfig("frontend", FrontendConfigArgs(config=config))).one("ConfigMap")
    assert made["metadata"]["name"] == "librechat-config"
    assert "immutable" not in made
    (endpoint,) = yaml.safe_load(made["data"]["librechat.yaml"])["endpoints"]["custom"]
    assert endpoint["models"]["default"] == list(config.exposed_names)
